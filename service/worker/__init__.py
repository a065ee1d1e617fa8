"""The thread that owns the model, and the queue before it."""
