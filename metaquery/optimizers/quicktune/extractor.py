"""The feature extractor that both predictors of Quick-Tune have (Arango et al., ICLR 2024, after DyHPO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from metaquery.optimizers.quicktune.encoding import Array, Encoder
from metaquery.optimizers.quicktune.network import Parameters, linear, linear_back
from metaquery.optimizers.quicktune.table import Points

WIDTH = 32
_CHANNELS, _CURVE_WIDTH, _META_WIDTH = 8, 16, 4
_KERNEL = 3
_DROPOUT = 0.2
_LEAK = 0.01

Cache = dict[str, Any]  # what a forward pass leaves for the backward one


@dataclass(frozen=True)
class Shape:
    """Sizes of a predictor's inputs, and which of them it reads."""

    n_backbones: int
    n_others: int
    epochs: int
    n_metafeatures: int  # 0 to read none
    grey_box: bool  # whether it reads the curve so far

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the extractor's parameters by name."""
        layers = {"backbone.0": (self.n_backbones, WIDTH), "backbone.1": (WIDTH, WIDTH)}
        layers |= {"others.0": (self.n_others, WIDTH), "others.1": (WIDTH, WIDTH)}
        joined = 2 * WIDTH + 1
        if self.grey_box:
            layers |= {"curve.0": (_KERNEL, _CHANNELS), "curve.1": (_KERNEL * _CHANNELS, _CHANNELS)}
            layers["curve.2"] = (_CHANNELS * ((self.epochs + 1) // 2), _CURVE_WIDTH)
            joined += _CURVE_WIDTH
        if self.n_metafeatures:
            layers["meta.0"] = (self.n_metafeatures, _META_WIDTH)
            joined += _META_WIDTH
        layers |= {"joined.0": (joined, WIDTH), "joined.1": (WIDTH, WIDTH)}
        shapes: dict[str, tuple[int, ...]] = {}
        for name, shape in layers.items():
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[1:]}
        return shapes


def shape_of(encoder: Encoder, *, grey_box: bool) -> Shape:
    """The shape of predictors that read what `encoder` writes."""
    return Shape(encoder.n_backbones, encoder.n_others, encoder.epochs, len(encoder.metafeatures.names), grey_box)


def extract(
    shape: Shape, p: Parameters, points: Points, dropout: np.random.Generator | None = None
) -> tuple[Array, Cache]:
    """Features, shape (n, WIDTH), and what `extract_back` needs; with `dropout` as in training, else as in use.

    MLPs over backbone and hyperparameters, a convolution over the curve, all joined by another MLP.
    """
    kept: Cache = {}
    parts = [_mlp(p, "backbone", points.backbones, kept), _mlp(p, "others", points.others, kept)]
    parts.append(points.epochs[:, None])
    if shape.grey_box:
        # All configs that have not started share one empty prefix, and most candidates have not.
        curves = np.concatenate([np.zeros_like(points.prefixes[:1]), points.prefixes[points.started]])
        kept["place"] = np.where(points.started, points.started.cumsum(), 0)
        parts.append(_convolve(p, curves, kept, dropout)[kept["place"]])
    if shape.n_metafeatures:
        parts.append(np.broadcast_to(linear(p, "meta.0", points.metafeatures), (len(points.epochs), _META_WIDTH)))
    joined = np.concatenate(parts, axis=1)
    hidden = linear(p, "joined.0", joined)
    slopes = np.where(hidden > 0.0, 1.0, _LEAK)
    hidden *= slopes
    kept |= {"joined": joined, "hidden": hidden, "slopes": slopes}
    return linear(p, "joined.1", hidden), kept


def extract_back(shape: Shape, p: Parameters, grad: Parameters, points: Points, kept: Cache, dfeatures: Array) -> None:
    """Sets the extractor's part of `grad` from `dfeatures`, the derivative by its features, shape (n, WIDTH)."""
    dhidden = linear_back(p, grad, "joined.1", kept["hidden"], dfeatures) * kept["slopes"]
    djoined = linear_back(p, grad, "joined.0", kept["joined"], dhidden)
    _mlp_back(p, grad, "backbone", points.backbones, kept, djoined[:, :WIDTH])
    _mlp_back(p, grad, "others", points.others, kept, djoined[:, WIDTH : 2 * WIDTH])
    start = 2 * WIDTH + 1
    if shape.grey_box:
        dcurves = np.zeros((int(points.started.sum()) + 1, _CURVE_WIDTH))
        mine = djoined[:, start : start + _CURVE_WIDTH]
        dcurves[0] = mine[~points.started].sum(axis=0)
        dcurves[1:] = mine[points.started]
        _convolve_back(p, grad, kept, dcurves)
        start += _CURVE_WIDTH
    if shape.n_metafeatures:
        dmeta = djoined[:, start:].sum(axis=0)
        grad["meta.0.weight"][...] = np.outer(points.metafeatures, dmeta)
        grad["meta.0.bias"][...] = dmeta


def _mlp(p: Parameters, name: str, x: Array, kept: Cache) -> Array:
    hidden = np.maximum(linear(p, f"{name}.0", x), 0.0)
    kept[name] = hidden
    return linear(p, f"{name}.1", hidden)


def _mlp_back(p: Parameters, grad: Parameters, name: str, x: Array, kept: Cache, dy: Array) -> None:
    hidden = kept[name]
    linear_back(p, grad, f"{name}.0", x, linear_back(p, grad, f"{name}.1", hidden, dy) * (hidden > 0.0))


def _convolve(p: Parameters, curves: Array, kept: Cache, dropout: np.random.Generator | None) -> Array:
    """`curves`, shape (k, epochs), through two convolutions, a maximum over pairs of epochs, and a layer: (k, 16)."""
    first = _windows(curves[:, :, None])
    hidden = np.maximum(linear(p, "curve.0", first), 0.0)
    second = _windows(hidden)
    out = linear(p, "curve.1", second)
    if out.shape[1] % 2:
        out = np.concatenate([out, np.full_like(out[:, :1], -np.inf)], axis=1)
    left, right = out[:, 0::2], out[:, 1::2]
    wins = left >= right
    pooled = np.where(wins, left, right).reshape(len(curves), -1)
    mask = None if dropout is None else (dropout.random(pooled.shape) >= _DROPOUT) / (1.0 - _DROPOUT)
    if mask is not None:
        pooled *= mask
    kept |= {"first": first, "curve": hidden, "second": second, "wins": wins, "pooled": pooled, "mask": mask}
    return linear(p, "curve.2", pooled)


def _convolve_back(p: Parameters, grad: Parameters, kept: Cache, dy: Array) -> None:
    hidden, wins = kept["curve"], kept["wins"]
    k, epochs, _ = hidden.shape
    dpooled = linear_back(p, grad, "curve.2", kept["pooled"], dy)
    if kept["mask"] is not None:
        dpooled *= kept["mask"]
    dpooled = dpooled.reshape(wins.shape)
    dout = np.stack([dpooled * wins, dpooled * ~wins], axis=2).reshape(k, -1, _CHANNELS)[:, :epochs]
    second = kept["second"].reshape(k * epochs, -1)
    dsecond = linear_back(p, grad, "curve.1", second, dout.reshape(k * epochs, -1)).reshape(k, epochs, _KERNEL, -1)
    dhidden = dsecond[:, :, 1].copy()
    dhidden[:, :-1] += dsecond[:, 1:, 0]
    dhidden[:, 1:] += dsecond[:, :-1, 2]
    dhidden *= hidden > 0.0
    first, dfirst = kept["first"].reshape(k * epochs, -1), dhidden.reshape(k * epochs, -1)
    np.matmul(first.T, dfirst, out=grad["curve.0.weight"])
    dfirst.sum(axis=0, out=grad["curve.0.bias"])


def _windows(x: Array) -> Array:
    """Each epoch with those before and after it, zeros at the ends: (k, epochs, c) to (k, epochs, 3 c)."""
    k, epochs, channels = x.shape
    windows = np.zeros((k, epochs, _KERNEL, channels))
    windows[:, 1:, 0] = x[:, :-1]
    windows[:, :, 1] = x
    windows[:, :-1, 2] = x[:, 1:]
    return windows.reshape(k, epochs, -1)
