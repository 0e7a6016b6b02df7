"""Kubernetes manifests into facts: schemas, validation and translation. No I/O: the caller brings parsed documents."""
