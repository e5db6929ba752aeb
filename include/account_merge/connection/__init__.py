"""The way to Cassandra: how its bytes become values, and how its driver's errors become ours.

It stands beside the rules, below every wing that sends a request. It imports the ground only.
"""
