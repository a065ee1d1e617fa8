"""The thread that owns the model, and its queues."""
