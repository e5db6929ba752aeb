"""What becomes of a row: a merge, an undo and a repair planned from rows that others read. Pure: no server, no clock of its own.

The engine and what stands above it may import this wing. It imports the rules and the ground.
"""
