"""Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747), in the file format of MNIST."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from accelerando.data.mnist import Mnist


@dataclass(frozen=True, kw_only=True)
class FashionMnist(Mnist):
    """Fashion-MNIST: 70,000 images of clothes, 28 x 28, in 10 classes."""

    NAME = "Fashion-MNIST"
    URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    HOME = "FashionMNIST/raw"
    TORCHVISION = "FashionMNIST"
    HOW_TO_OBTAIN = "run `apt install dataset-fashion-mnist` (Debian, Ubuntu)"
    INSTALLED = Path("/usr/share/datasets/fashion-mnist")
