"""Unix sockets and HTTP of this node: between its processes, and to those who ask."""
