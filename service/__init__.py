"""Précis as an HTTP service: the only place where compressor and index meet."""
