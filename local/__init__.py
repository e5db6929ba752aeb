"""The local stack: real Kafka, Cassandra, PostgreSQL and Airflow on this machine, for the demo and the tests.

`python -m local.stack` starts and stops it, `python -m local.demo` shows one merge on it. Nothing of the product
imports this package.
"""
