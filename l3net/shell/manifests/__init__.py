"""A directory of manifests: read within bounds, and followed as the files change."""
