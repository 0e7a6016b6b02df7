"""The only I/O: netlink, namespaces, nft, ExaBGP, files, sockets and the clock. It translates errors once, at the edge."""
