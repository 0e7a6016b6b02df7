"""Tells BMP collectors (RFC 7854) what peers say and hear: off, and without cost, where none is declared."""
