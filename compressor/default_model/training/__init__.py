"""The training stages of the default model."""
