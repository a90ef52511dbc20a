"""Random transformations of a batch of images: small parameters drawn on the CPU, applied at once on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

NOISE_VALUES = 2**22


@dataclass(frozen=True, slots=True)
class Legal:
    """What may be done to the images of a dataset without making them anatomically wrong.

    `flips` are the array axes, counted from the end (-1 is left-right in a usual display), along which an image may
    be mirrored; `bias_field` says that intensity may drift smoothly over the image, as it does in MRI.
    """

    flips: tuple[int, ...] = ()
    bias_field: bool = False

    @property
    def free_rotation(self) -> bool:
        """Whether images have no canonical orientation in the plane of the last two axes."""
        return {-1, -2} <= set(self.flips)


@dataclass(frozen=True, slots=True)
class Transform:
    """Parameters of one transformation per sample, every tensor (n, ...); neutral values change nothing.

    `affine` maps output to input positions in units of pixels from the centre, axes in array order, (n, d, d + 1).
    Intensities are in [0, 255]; `contrast` and `brightness` are factors, of the distance to the sample's mean and of
    the intensity. `bias` holds the coefficients of the log of a quadratic field, (n, d + d (d + 1) / 2). `noise` is a
    standard deviation and `noise_start` where the sample reads the common reservoir of normal numbers.
    """

    affine: Tensor
    gamma: Tensor
    contrast: Tensor
    brightness: Tensor
    bias: Tensor
    noise: Tensor
    noise_start: Tensor
    saturation: Tensor
    sharpness: Tensor
    bits: Tensor
    solarize: Tensor
    autocontrast: Tensor
    equalize: Tensor

    @classmethod
    def neutral(cls, n: int, n_dims: int) -> Transform:
        """The transformation that changes nothing."""
        one, zero = torch.ones(n), torch.zeros(n)
        return cls(
            affine=torch.eye(n_dims, n_dims + 1).repeat(n, 1, 1),
            gamma=one,
            contrast=one,
            brightness=one,
            bias=torch.zeros(n, n_dims + n_dims * (n_dims + 1) // 2),
            noise=zero,
            noise_start=torch.zeros(n, dtype=torch.int64),
            saturation=one,
            sharpness=one,
            bits=torch.full((n,), 8.0),
            solarize=torch.full((n,), 256.0),
            autocontrast=torch.zeros(n, dtype=torch.bool),
            equalize=torch.zeros(n, dtype=torch.bool),
        )

    @classmethod
    def cat(cls, parts: Sequence[Transform]) -> Transform:
        """The transformations of several batches as those of one."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def draw(kind: str, n: int, size: Sequence[int], legal: Legal, generator: torch.Generator) -> Transform | None:
    """Draw the transformations of `n` samples of the spatial shape `size`; None where `kind` changes nothing.

    `none`: nothing. `light`: shifts by up to a tenth of every axis, brightness and contrast. `medical`: the flips that
    are legal, rotation in the plane of the last two axes (up to 15 degrees, any angle where images have no canonical
    orientation), scale and shift, gamma, brightness, contrast, noise, and a bias field for MRI; ranges after nnU-Net
    (Isensee et al., Nature Methods 2021). `trivial`: TrivialAugment (Müller and Hutter, ICCV 2021) with its wide
    ranges, one operation of uniform strength per image; it knows no anatomy, as in the paper.
    """
    if kind == "none":
        return None
    return {"light": _light, "medical": _medical, "trivial": _trivial}[kind](n, size, legal, generator)


def _light(n: int, size: Sequence[int], _legal: Legal, generator: torch.Generator) -> Transform:
    u = _uniform(generator, n, len(size) + 2)
    affine = torch.eye(len(size), len(size) + 1).repeat(n, 1, 1)
    affine[:, :, -1] = u[:, : len(size)] * 0.1 * torch.tensor(size)
    neutral = Transform.neutral(n, len(size))
    return replace(neutral, affine=affine, contrast=1 + 0.2 * u[:, -2], brightness=1 + 0.2 * u[:, -1])


def _medical(n: int, size: Sequence[int], legal: Legal, generator: torch.Generator) -> Transform:
    d = len(size)
    neutral = Transform.neutral(n, d)
    flips = torch.ones(n, d)
    for axis in legal.flips:
        flips[:, axis] = (torch.rand(n, generator=generator) < 0.5) * 2.0 - 1.0
    u = _uniform(generator, n, d + 5)
    angle = u[:, 0] * math.pi * (1.0 if legal.free_rotation else 15 / 180)
    matrix = _rotation(angle, d) * flips[:, None, :] / torch.exp(u[:, 1] * math.log(1.1))[:, None, None]
    shift = u[:, 5:] * 0.05 * torch.tensor(size)
    some = torch.rand((n, 3), generator=generator) < 0.5
    bias = _uniform(generator, n, neutral.bias.shape[1]) * 0.3
    start = torch.randint(NOISE_VALUES, (n,), generator=generator)
    return replace(
        neutral,
        affine=torch.cat([matrix, shift[:, :, None]], dim=2),
        gamma=torch.where(some[:, 0], torch.exp(u[:, 2] * math.log(1.25)), neutral.gamma),
        contrast=1 + 0.25 * u[:, 3],
        brightness=1 + 0.25 * u[:, 4],
        noise=torch.where(some[:, 1], 7.65 * torch.rand(n, generator=generator), neutral.noise),
        noise_start=start,
        bias=bias * (some[:, 2] & legal.bias_field)[:, None],
    )


def _trivial(n: int, size: Sequence[int], _legal: Legal, generator: torch.Generator) -> Transform:
    d = len(size)
    neutral = Transform.neutral(n, d)
    # Shear and shift act along one axis, so each axis has its own operations, as x and y have in the paper.
    operation = torch.randint(10 + 2 * d, (n,), generator=generator)
    strength = torch.rand(n, generator=generator)
    signed = strength * ((torch.rand(n, generator=generator) < 0.5) * 2.0 - 1.0)
    matrix = torch.where(operation.eq(0)[:, None, None], _rotation(signed * math.pi * 0.75, d), torch.eye(d))
    shift = torch.zeros(n, d)
    for axis in range(d):
        sheared = operation == 10 + axis
        matrix[sheared, axis, axis - 1] = 0.99 * signed[sheared]
        shift[:, axis] = torch.where(operation == 10 + d + axis, signed * size[axis] / 7, shift[:, axis])
    blend = 1 + 0.99 * signed
    return replace(
        neutral,
        affine=torch.cat([matrix, shift[:, :, None]], dim=2),
        brightness=torch.where(operation == 1, blend, neutral.brightness),
        contrast=torch.where(operation == 2, blend, neutral.contrast),
        saturation=torch.where(operation == 3, blend, neutral.saturation),
        sharpness=torch.where(operation == 4, blend, neutral.sharpness),
        bits=torch.where(operation == 5, 8 - (strength * 6).round(), neutral.bits),
        solarize=torch.where(operation == 6, 256 * (1 - strength), neutral.solarize),
        autocontrast=operation == 7,
        equalize=operation == 8,
    )  # operation 9 is the identity


def _uniform(generator: torch.Generator, n: int, columns: int) -> Tensor:
    """Uniform draws in [-1, 1], (n, columns)."""
    return torch.rand((n, columns), generator=generator) * 2 - 1


def _rotation(angle: Tensor, n_dims: int) -> Tensor:
    """Rotations by `angle` (n,) in the plane of the last two axes, (n, n_dims, n_dims)."""
    matrix = torch.eye(n_dims).repeat(len(angle), 1, 1)
    matrix[:, -2, -2] = matrix[:, -1, -1] = torch.cos(angle)
    matrix[:, -2, -1] = torch.sin(angle)
    matrix[:, -1, -2] = -torch.sin(angle)
    return matrix
