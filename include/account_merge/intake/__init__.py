"""The ways by which merges come in and start: the topic, a person's request, an approval, a replay, a rescue.

The service and the commands may import this wing; reports must not. It imports the lifecycle and what stands below that.
"""
