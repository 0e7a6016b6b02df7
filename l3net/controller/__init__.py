"""The cluster loop: blocks for nodes, addresses for load balancers, and what to say about pools.

It decides by `ipam`'s plans and writes through `ports.ClusterWriter`; only the holder of the Lease does.
"""
