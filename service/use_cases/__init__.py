"""What the service does, free of HTTP."""
