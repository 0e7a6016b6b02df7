"""What is wrong with a node, why, and what to do: observations in, findings out.

Pure: whoever calls has looked (l3net.shell.probes.node); here it is judged.
"""
