"""Training data: photographs, named cut-outs, composed scenes and questions about them."""
