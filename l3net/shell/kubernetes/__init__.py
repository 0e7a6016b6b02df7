"""The Kubernetes API: HTTP, lists and watches, writes. Facts come out of `l3net.kube`."""
