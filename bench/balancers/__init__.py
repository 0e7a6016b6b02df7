"""What `bench/services.py` measures: ways of packets, changes, and kube-proxy's designs beside them."""
