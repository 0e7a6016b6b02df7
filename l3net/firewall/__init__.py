"""nftables rule sets as text: service NAT, masquerade, protection. No I/O."""
