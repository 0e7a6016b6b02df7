"""What the other side of the sessions has to be configured with, made from the declared state, for whoever
owns the routers: a module a dialect, and `facts`, which all of them write down. Pure."""
