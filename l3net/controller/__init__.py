"""The cluster loop: blocks to nodes, addresses to services."""
