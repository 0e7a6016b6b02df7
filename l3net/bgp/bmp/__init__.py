"""The BGP Monitoring Protocol (RFC 7854, Adj-RIB-Out: RFC 8671) from the router's side: its messages in
octets, and what a collector has yet to be told. No socket, no clock.
"""
