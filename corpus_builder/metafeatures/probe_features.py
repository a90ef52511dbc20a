"""The two fixed nets: their features, and the Fisher information of their weights. The one module here with torch.

`imagenet` is ShuffleNetV2 x0.5 with ImageNet weights, the smallest pretrained net of the portfolio that takes colour.
It sees images at 96 x 96, and of a volume evenly spaced slices, whose features are averaged. `random` needs no file:
its weights are the same everywhere and always. It has as many dimensions as the data, so that it sees of a volume what
slices do not show, at up to 64 x 64 or 32 x 32 x 32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod, sqrt
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from corpus_builder.backbones import BackboneSpec, Normalization, backbone_spec
from corpus_builder.backbones.stages import Backbone, StagedBackbone
from corpus_builder.backbones.weights import build
from corpus_builder.datasets.resize import resize
from corpus_builder.metafeatures.slices import slices
from corpus_builder.recipe import to_input
from corpus_builder.train.device import deterministic

IMAGENET = "shufflenetv2_x0_5.imagenet"
_IMAGENET_SIZE = (96, 96)
_RANDOM_SIDE = {2: 64, 3: 32}
_RANDOM_WIDTHS = (16, 32, 64)
_BATCH = 32
_CPU = torch.device("cpu")

Images = NDArray[np.uint8]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FixedNet:
    """A net in evaluation mode and what it looks at: `views` are (n, views, channels, *size) of images (n, ...)."""

    spec: BackboneSpec
    backbone: Backbone
    views: Callable[[Images], Images]

    def __call__(self, images: Images) -> Tensor:
        """Features (n, feature_dim) of `images` (n, channels, *spatial): the mean over the views of each."""
        views = self.views(images)
        batch = torch.from_numpy(views).flatten(0, 1).float()
        features: Tensor = self.backbone(to_input(batch, self.spec))
        return features.view(len(images), -1, features.shape[1]).mean(dim=1)

    def features(self, images: Images) -> Values:
        """Features (n, feature_dim) of `images` (n, channels, *spatial)."""
        with deterministic(0, _CPU), torch.inference_mode():
            parts = [self(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
            return torch.cat(parts).double().numpy()

    def fisher_information(self, images: Images, weight: Values, bias: Values) -> Values:
        """Trace of the Fisher information of each convolution's weights, (convolutions,), from the input on.

        It is the mean over `images` of the expected squared gradient of log p(y | image) for y drawn from the
        prediction of the linear head `weight` (classes, feature_dim) and `bias` (classes,) on the features: the
        diagonal of Task2Vec (Achille et al., ICCV 2019), summed. One gradient per image gives it without bias: that
        of the logits along S r, where S S' is the covariance of the predicted indicator of y and r are random signs;
        for two classes there is no randomness in it.
        """
        layers = [layer.weight for layer in self.backbone.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)]
        head, offset = torch.from_numpy(weight), torch.from_numpy(bias)
        signs = torch.from_numpy(2.0 * (_fixed_uniform(0, len(images), len(bias)) < 0.5) - 1)
        total = torch.zeros(len(layers), dtype=torch.float64)
        with deterministic(0, _CPU):
            for index in range(len(images)):
                logits = head @ self(images[index : index + 1])[0].double() + offset
                shares = logits.detach().softmax(0)
                values, vectors = torch.linalg.eigh(shares.diag() - shares.outer(shares))
                direction = vectors @ (values.clamp_min(0).sqrt() * signs[index])
                gradients = torch.autograd.grad(logits @ direction, layers)
                total += torch.stack([gradient.double().square().sum() for gradient in gradients])
        return (total / len(images)).numpy()


def imagenet_net(weights_root: Path | None) -> FixedNet:
    """The pretrained net."""
    spec = backbone_spec(IMAGENET)
    with deterministic(0, _CPU):  # what the weights replace is drawn from the global generator
        backbone = build(spec, weights_root)
    return FixedNet(spec, backbone.eval(), _resized_slices)


def random_net(n_dims: int) -> FixedNet:
    """The net with fixed random weights: three convolutions, each with ReLU and average pooling, without biases.

    Weights are uniform with the variance of He et al. (ICCV 2015).
    """
    conv, pool = {2: (nn.Conv2d, nn.AvgPool2d), 3: (nn.Conv3d, nn.AvgPool3d)}[n_dims]
    stages: dict[str, nn.Module] = {}
    with deterministic(0, _CPU):
        for number, (c_in, c_out) in enumerate(pairwise((3, *_RANDOM_WIDTHS)), start=1):
            layer = conv(c_in, c_out, 3, padding=1, bias=False)
            values = (_fixed_uniform(number, *layer.weight.shape) * 2 - 1) * sqrt(6 / prod(layer.weight.shape[1:]))
            layer.weight.data.copy_(torch.from_numpy(values))
            stages[f"stage{number}"] = nn.Sequential(layer, nn.ReLU(), pool(2))
    backbone = StagedBackbone(stages, feature_dim=_RANDOM_WIDTHS[-1]).eval()
    spec = BackboneSpec(
        name=f"random_{n_dims}d.fixed",
        family="random",
        n_dims=n_dims,
        in_channels=3,
        feature_dim=backbone.feature_dim,
        parameters=sum(parameter.numel() for parameter in backbone.parameters()),
        normalization=Normalization("zscore"),
        build=lambda: backbone,
        licence="Apache-2.0",
        source="MedCurves",
    )
    return FixedNet(spec, backbone, _bounded)


def _resized_slices(images: Images) -> Images:
    views = slices(images)
    return resize(views.reshape(-1, *views.shape[2:]), _IMAGENET_SIZE).reshape(*views.shape[:3], *_IMAGENET_SIZE)


def _bounded(images: Images) -> Images:
    """Images as their only view; sides that the random net could not halve three times are stretched."""
    most = _RANDOM_SIDE[images.ndim - 2]
    return resize(images, tuple(max(2 ** len(_RANDOM_WIDTHS), min(n, most)) for n in images.shape[2:]))[:, None]


def _fixed_uniform(seed: int, *shape: int) -> Values:
    """Numbers between 0 and 1 from the raw stream of PCG64, which NumPy promises never to change."""
    raw = np.random.PCG64(seed).random_raw(prod(shape))
    return ((raw >> 11) * 2.0**-53).reshape(shape)
