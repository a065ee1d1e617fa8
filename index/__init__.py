"""Token codecs, token stores, vector indexes, and the library that keeps them consistent.

Embeddings and tokens come in as arrays, from any model; `tests/test_imports.py` keeps it so.
"""
