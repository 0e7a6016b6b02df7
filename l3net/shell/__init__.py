"""The only I/O: netlink, namespaces, nft, ExaBGP, files, sockets, the clock. Errors are translated here."""
