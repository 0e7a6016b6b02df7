"""A lab under faults that a seed draws, measured all the while.

The schedule is data and drawn before anything begins; what a fault may cost is stated beside it, and whatever
is lost, changed or left beyond that is a failure with its time and cause.
"""
