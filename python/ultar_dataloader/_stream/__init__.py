"""Streams: lazy, immutable pipelines over datasets, exact in order and resumable at any step."""
