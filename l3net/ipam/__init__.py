"""Pools, blocks and leases as values: which address a pod gets and when it may be reused. No I/O."""
