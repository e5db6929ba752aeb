"""The platform as we meet it: its tables and their rows, its users, its topics and what is written on them.

The journal and what stands above it may import this wing. It imports the connection, the rules and the ground. Nobody else
knows a driver of the platform's servers.
"""
