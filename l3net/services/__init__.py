"""Which service addresses are advertised, where and why, and which backends serve them. No I/O."""
