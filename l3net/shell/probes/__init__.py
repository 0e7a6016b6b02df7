"""Looks at a node from outside the agent, for `l3net doctor`."""
