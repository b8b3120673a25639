"""Data sets: one file per source, arrays without torch; their form on a device in ``images``."""
