"""The LVLM side: first pass, second pass, training, evaluation. Knows nothing of stores, indexes or
HTTP.
"""
