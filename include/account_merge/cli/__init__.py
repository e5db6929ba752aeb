"""The command line. It stands on top: it imports the service and what that hands out, and nobody imports it."""
