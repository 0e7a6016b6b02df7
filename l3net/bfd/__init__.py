"""BFD (RFC 5880) without I/O: packets, authentication, and the session as a machine of times and packets.

What is received and what time it is goes in; what is to be sent and what became of the session comes out.
"""
