"""The way to Cassandra: how its bytes become values, and what its driver's errors mean to people.

It stands beside the rules, below every wing that sends a request. It imports the ground only.
"""
