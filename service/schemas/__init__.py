"""The bodies of requests and responses. Their docstrings and descriptions are part of the API."""
