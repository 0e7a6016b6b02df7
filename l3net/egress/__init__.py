"""With which address pods leave the cluster, and by which node: facts in, holders and rules out. The same on
every node, out of the declared state and of which nodes can be reached."""
