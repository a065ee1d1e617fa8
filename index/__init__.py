"""Token codecs, token stores, vector indexes, and the library that keeps them consistent.

Knows nothing of models, HTTP or the command line.
"""
