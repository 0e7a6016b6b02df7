"""The node loop: one pass reads facts, decides, compares and applies."""
