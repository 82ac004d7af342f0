"""Benchmarks: ours, other loaders and what the machine can do at best, on the same data. See README.md."""
