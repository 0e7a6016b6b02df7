"""What an agent exports: as it is documented, as Prometheus asks, and bounded."""

from __future__ import annotations
