"""One table's work: plan, log, apply, verify, and undo. A repetition ends the same.

The lifecycle and what stands above it may import this wing. It imports the journal and what stands below that.
"""
