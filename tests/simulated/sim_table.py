"""The nftables tables of a simulated node (packets.table)."""

from packets.table import OneTable, SimTable

__all__ = ["OneTable", "SimTable"]
