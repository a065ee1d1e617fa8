"""Benchmarks: one a file, run by `make bench` or one by one with `python -m bench.NAME`."""
