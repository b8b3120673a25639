"""Models as plain ``torch.nn.Module``, one family per file."""

from accelerando.models.cnn import Cnn
from accelerando.models.imagenet_resnet import imagenet_resnet
from accelerando.models.mlp import Mlp
from accelerando.models.resnet import ResNet
from accelerando.models.wide_resnet import WideResNet

__all__ = ["Cnn", "Mlp", "ResNet", "WideResNet", "imagenet_resnet"]
