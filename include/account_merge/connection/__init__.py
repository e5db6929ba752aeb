"""The way to Cassandra: the session, the values of its bytes, and our errors for those of its driver.

It stands beside the rules, below every wing that sends a request. It imports the ground only.
"""
