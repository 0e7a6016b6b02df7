"""What a process measures: families with names, kinds and meanings as Prometheus asks, and their text.

Nothing here knows what is measured, nor looks at a clock; each process has a list of rows of its own.
"""
