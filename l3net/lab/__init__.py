"""A lab of nodes and virtual routers in network namespaces, made from one topology file."""
