"""Plans for rows: a merge, an undo and a repair, planned from rows that others read. Pure: it asks no server.

The engine and what stands above it may import this wing. It imports the rules and the ground.
"""
