"""Human captions of a photograph, read into facts, and questions that the facts answer."""
