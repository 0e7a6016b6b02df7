"""Moving a node's pods from another network to l3net, in place and back: what is decided of it."""
