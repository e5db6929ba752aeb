"""Previews, reports, lists and checks for people and programs. Nothing is written here.

The service and the commands may import this wing; intake must not. It imports the lifecycle and what stands below that.
"""
