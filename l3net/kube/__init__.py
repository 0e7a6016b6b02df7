"""Kubernetes manifests into facts: schemas, validation and translation. No I/O."""
