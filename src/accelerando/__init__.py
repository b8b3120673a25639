"""Accelerando compares batch-size x learning-rate schedulers of mini-batch SGD."""

from pathlib import Path

__version__ = "0.1.0"


def conf_folder() -> Path:
    """Return the folder with the YAML files, of the checkout or of the installed package."""
    package = Path(__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"
