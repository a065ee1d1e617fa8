"""The training data of the default model."""
