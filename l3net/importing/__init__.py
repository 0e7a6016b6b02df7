"""What other systems declare, as l3net's facts and a report of every field: carried over, changed in
meaning, or what cannot be said.

A module a source turns parsed objects into facts; `writing` makes manifests of them. Nothing here reads a
file or asks an API server.
"""
