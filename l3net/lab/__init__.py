"""A lab of nodes and virtual routers in network namespaces, made from one topology file.

Topology, numbering, router configurations and manifests are pure values and text, shared by every kind of
lab; hosts, processes, pods and checks are what the namespace lab does with them.
"""
