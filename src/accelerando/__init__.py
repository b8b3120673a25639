"""Accelerando compares batch-size x learning-rate schedulers of mini-batch SGD."""

__version__ = "0.1.0"
