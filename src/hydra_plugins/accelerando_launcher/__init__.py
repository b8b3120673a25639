"""Hydra launchers; Hydra discovers them by this package's place in ``hydra_plugins``."""
