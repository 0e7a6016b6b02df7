"""A conformance suite for CNI plugins: what the specification and a runtime's users expect, as named cases.

It executes any plugin in network namespaces of its own and reports each case as passed, failed or not
applicable. It answers https://github.com/containernetworking/cni/issues/540.
"""
