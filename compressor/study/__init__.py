"""Studies: the same training under changed choices, measured alike. Not needed to serve."""
