"""Launchers that Hydra finds by themselves."""
