"""A merge from its request to its erasure: which state follows which, who holds the accounts, what is owed.

Intake, reports, the service and the commands may import this wing. It imports the engine and what stands below that.
"""
