"""Commands of `precis` that need no running service."""
