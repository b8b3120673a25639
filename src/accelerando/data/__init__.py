"""Data sets: one module per source, the cache, and batches in memory or streamed from files."""
