"""Applying drawn transformations to a batch, all samples at once, on whatever device the batch is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from corpus_builder.recipe.augmentation import NOISE_VALUES, Transform


def apply(x: Tensor, transform: Transform | None) -> Tensor:
    """Transform `x` (n, channels, *spatial), floating point in [0, 255]; the result is in the same range.

    Geometry comes first, with linear interpolation and the image mirrored at its border. Every operation runs on the
    samples for which it is not neutral and on no others, so that a sample is the same in whatever batch it is.
    """
    if transform is None:
        return x
    neutral = Transform.neutral(1, x.ndim - 2)
    for operation, names in _OPERATIONS:
        changed = getattr(transform, names[0]) != getattr(neutral, names[0])
        rows = changed.reshape(len(x), -1).any(dim=1).nonzero()[:, 0]  # on the CPU: no waiting for the device
        if len(rows) == 0:
            continue
        values = [getattr(transform, name)[rows].to(x.device, non_blocking=True) for name in names]
        values = [value.to(x.dtype) if value.is_floating_point() else value for value in values]
        if len(rows) == len(x):
            x = operation(x, *values)
        else:
            rows = rows.to(x.device, non_blocking=True)
            x = x.index_copy(0, rows, operation(x[rows], *values))
    return x.clamp(0, 255)


def _resample(x: Tensor, affine: Tensor) -> Tensor:
    """Sample `x` where `affine` (n, d, d + 1), in pixels from the centre and array order, sends output positions."""
    d = x.ndim - 2
    half = torch.tensor(x.shape[2:], dtype=x.dtype, device=x.device) / 2
    matrix = affine[:, :, :d] * half[None, None, :] / half[None, :, None]
    shift = affine[:, :, d] / half
    theta = torch.cat([matrix, shift[:, :, None]], dim=2)
    order = [*reversed(range(d)), d]  # affine_grid counts axes from the last
    theta = theta[:, order[:d]][:, :, order]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _gamma(x: Tensor, gamma: Tensor) -> Tensor:
    return (x / 255).clamp_min(0).pow(_each(gamma, x)) * 255


def _posterize(x: Tensor, bits: Tensor) -> Tensor:
    step = 2.0 ** (8 - _each(bits, x))
    return (x / step).floor() * step


def _solarize(x: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(x >= _each(threshold, x), 255 - x, x)


def _autocontrast(x: Tensor, _on: Tensor) -> Tensor:
    """Each channel stretched to the whole range; constant channels as they are."""
    axes = tuple(range(2, x.ndim))
    low, high = x.amin(dim=axes, keepdim=True), x.amax(dim=axes, keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-6) * 255, x)


def _equalize(x: Tensor, _on: Tensor) -> Tensor:
    """Each channel with its intensities replaced by their ranks in 256 levels: a flat histogram."""
    levels = x.flatten(0, 1).flatten(1).round().long()
    counts = torch.zeros(len(levels), 256, dtype=torch.int64, device=x.device)
    cumulated = counts.scatter_add_(1, levels, torch.ones_like(levels)).cumsum(1)
    first = cumulated.gather(1, levels.amin(dim=1, keepdim=True))  # of the darkest level, which becomes 0
    ranks = (cumulated - first).clamp_min(0).to(x.dtype) / (levels.shape[1] - first).clamp_min(1)
    return (ranks * 255).gather(1, levels).view_as(x)


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    mean = x.mean(dim=tuple(range(1, x.ndim)), keepdim=True)
    return mean + (x - mean) * _each(factor, x)


def _brightness(x: Tensor, factor: Tensor) -> Tensor:
    return x * _each(factor, x)


def _saturation(x: Tensor, factor: Tensor) -> Tensor:
    grey = x.mean(dim=1, keepdim=True)
    return grey + (x - grey) * _each(factor, x)


def _sharpness(x: Tensor, factor: Tensor) -> Tensor:
    blurred = _blur(x)
    return blurred + (x - blurred) * _each(factor, x)


def _blur(x: Tensor) -> Tensor:
    """Weighted mean of the neighbourhood of three along every axis: 5 in its centre, else 1."""
    box = x
    for axis in range(2, x.ndim):
        size = x.shape[axis]
        padded = torch.cat([box.narrow(axis, 0, 1), box, box.narrow(axis, size - 1, 1)], dim=axis)
        box = padded.narrow(axis, 0, size) + box + padded.narrow(axis, 2, size)
    cells: int = 3 ** (x.ndim - 2)
    return (box + 4 * x) / (cells + 4)


def _bias(x: Tensor, coefficients: Tensor) -> Tensor:
    return x * _field(coefficients, x.shape[2:])[:, None]


def _field(coefficients: Tensor, size: torch.Size) -> Tensor:
    """The exponential of a quadratic polynomial over [-1, 1] along each axis, (n, *size)."""
    axes = torch.meshgrid(
        *(torch.linspace(-1, 1, steps, dtype=coefficients.dtype, device=coefficients.device) for steps in size),
        indexing="ij",
    )
    terms = [*axes, *(axes[i] * axes[j] for i in range(len(axes)) for j in range(i, len(axes)))]
    log = torch.zeros(len(coefficients), *size, dtype=coefficients.dtype, device=coefficients.device)
    for coefficient, term in zip(coefficients.unbind(1), terms, strict=True):
        log.add_(coefficient.view(-1, *[1] * len(size)) * term)
    return log.exp()


def _noise(x: Tensor, deviation: Tensor, start: Tensor) -> Tensor:
    """Each sample reads the reservoir from its own place on."""
    reservoir = _reservoir(x.device, x.dtype)
    where = (start[:, None] + torch.arange(x[0].numel(), device=x.device)) % len(reservoir)
    return x + _each(deviation, x) * reservoir[where].view_as(x)


@cache
def _reservoir(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Standard normal numbers, the same on every device and in every run."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(NOISE_VALUES, generator=generator).to(device, dtype)


def _each(value: Tensor, x: Tensor) -> Tensor:
    """`value` (n,) with as many axes as `x` (n, ...)."""
    return value.view(-1, *[1] * (x.ndim - 1))


# In the order in which they are applied, each with the parameters it takes: it runs where the first is not neutral.
# Those that need values in [0, 255] stand before those that may leave that range.
_OPERATIONS: tuple[tuple[Callable[..., Tensor], tuple[str, ...]], ...] = (
    (_resample, ("affine",)),
    (_gamma, ("gamma",)),
    (_posterize, ("bits",)),
    (_solarize, ("solarize",)),
    (_autocontrast, ("autocontrast",)),
    (_equalize, ("equalize",)),
    (_contrast, ("contrast",)),
    (_brightness, ("brightness",)),
    (_saturation, ("saturation",)),
    (_sharpness, ("sharpness",)),
    (_bias, ("bias",)),
    (_noise, ("noise", "noise_start")),
)
