"""The kernel: netlink, nft, namespaces, sysctls, raw sockets. Errors are translated here, once."""
