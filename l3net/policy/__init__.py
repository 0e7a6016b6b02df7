"""Network policies: which pods each is for, what a packet meets, and the rules of the kernel that say so.

Facts in, values out. What a packet meets is said twice, by `verdict` for people and tests and by the rules
for the kernel, and tests hold the one against the other.
"""
