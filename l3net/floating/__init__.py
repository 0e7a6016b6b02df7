"""Which pod has which floating address: facts in, holdings out. The same on every node, out of the declared
state alone."""
