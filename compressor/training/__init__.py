"""Training of the stage-specific adapters, the readout and the retrieval head."""
