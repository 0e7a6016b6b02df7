"""Many simulated nodes, the routers between them, and what may happen to all of it: a seed draws a case, laws
judge it, and a case that breaks one is made small.

The agents are the real ones; everything else is a model, under one simulated clock.
"""
