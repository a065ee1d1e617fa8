"""The held-out figures of the default model."""
