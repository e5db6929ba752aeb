"""Merge one learner's accounts on a Sunbird platform: nothing lost, nothing counted twice, every change explained.

This package is the core: it knows Cassandra and Kafka, and nothing of Airflow.
"""
