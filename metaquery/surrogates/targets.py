"""Curves as a few coefficients: standardised by task, on the main directions of the curves that are complete."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput
from metaquery.surrogates.network import Single
from metaquery.surrogates.trials import TARGETS, Trials

Floats = NDArray[np.float64]

_DIRECTIONS = (8, 4)  # of losses, and of seconds
_SIDES = (slice(0, 2), slice(2, 4))  # of TARGETS: losses, and seconds
_FEWEST = 8  # complete curves


@dataclass(frozen=True)
class Scale:
    """`offset` and `scale` (tasks, 4, 1) standardise what TARGETS names; `basis` (k, 4, epochs) and `mean` (4, epochs)
    turn coefficients into standardised curves. Targets without any value are 0 everywhere in `basis` and `mean`."""

    offset: Floats
    scale: Floats
    mean: Floats
    basis: Floats

    @classmethod
    def of(cls, trials: Trials) -> Scale:
        """Learn it; raises InvalidInput where fewer than 8 trials have a value at every epoch."""
        shape = (len(trials.tasks), len(TARGETS), 1)
        offset, scale = np.zeros(shape), np.ones(shape)
        everywhere = _moments(trials.curves)
        for task in range(len(trials.tasks)):
            own = _moments(trials.curves[trials.task == task])
            for target, (centre, deviation) in enumerate(own):
                known = np.isfinite(centre)
                offset[task, target] = centre if known else np.nan_to_num(everywhere[target][0])
                spread = deviation if known and deviation > 1e-6 else np.nan_to_num(everywhere[target][1], nan=1.0)
                scale[task, target] = max(spread, 1e-6) if target < 2 else 1.0
        z = (trials.curves - offset[trials.task]) / scale[trials.task]
        mean = np.zeros(z.shape[1:])
        blocks = []
        for side, most in zip(_SIDES, _DIRECTIONS, strict=True):
            there = [target for target in range(side.start, side.stop) if np.isfinite(z[:, target]).any()]
            part = z[:, there]
            part = part[np.isfinite(part).all(axis=(1, 2))]
            if len(part) < _FEWEST and there:
                raise InvalidInput(
                    f"a surrogate needs at least {_FEWEST} trials with all {trials.epochs} epochs, got {len(part)}"
                )
            for target in there:
                mean[target] = part[:, there.index(target)].mean(axis=0)
            if there:
                centred = (part - mean[there]).reshape(len(part), -1)
                directions = np.linalg.svd(centred, full_matrices=False)[2][:most]
                block = np.zeros((len(directions), *mean.shape))
                block[:, there] = directions.reshape(len(directions), len(there), -1) * np.sqrt(mean.shape[1])
                blocks.append(block)
        return cls(offset, scale, mean, np.concatenate(blocks))

    def standardise(self, trials: Trials) -> Floats:
        """Standardised curves, the shape of `trials.curves`, NaN kept."""
        z: Floats = (trials.curves - self.offset[trials.task]) / self.scale[trials.task]
        return z

    def project(self, z: Floats) -> Floats:
        """Coefficients (n, k) of standardised curves (n, 4, epochs), by least squares over their finite values, with a
        slight pull to 0."""
        k = len(self.basis)
        flat, basis = (z - self.mean).reshape(len(z), -1), self.basis.reshape(k, -1)
        found = np.zeros((len(z), k))
        for row, values in enumerate(flat):
            known = np.isfinite(values)
            own = basis[:, known]
            found[row] = np.linalg.solve(own @ own.T + 0.1 * np.eye(k), own @ values[known])
        return found


def _moments(curves: Floats) -> list[tuple[float, float]]:
    """Mean and standard deviation of each target of `curves` (n, 4, epochs); NaN where it has no value."""
    found = []
    for target in range(len(TARGETS)):
        values = curves[:, target][np.isfinite(curves[:, target])]
        found.append((float(values.mean()), float(values.std())) if len(values) else (np.nan, np.nan))
    return found


class CurveLoss:
    """Squared error of the standardised curves at the epochs that were run, and cross-entropy of how trials ended.

    Outputs are the coefficients, one logit for each of `ends`, and the logarithm of the number of epochs that ran where
    not all did.
    """

    def __init__(self, z: Floats, scale: Scale, ends: NDArray[np.int64], n_ends: int, log_epochs: Floats) -> None:
        known = np.isfinite(z)
        self._known = known.reshape(len(z), -1).astype(np.float32)
        self._z = np.where(known, z - scale.mean, 0.0).reshape(len(z), -1).astype(np.float32)
        self._basis = scale.basis.reshape(len(scale.basis), -1).astype(np.float32)
        self._ends = np.eye(n_ends, dtype=np.float32)[ends]
        self._log_epochs = log_epochs.astype(np.float32)
        # A target weighs the same whatever its spread: what is hard to say about seconds is small beside losses.
        counts = np.maximum(known.sum(axis=(0, 2)), 1)
        spread = np.where(known, z - scale.mean, 0.0)
        variance = (spread**2).sum(axis=(0, 2)) / counts
        per = np.repeat(1.0 / np.maximum(variance, 1e-6), z.shape[2]) / z.shape[2]
        self._weight = per.astype(np.float32)

    @property
    def n_outputs(self) -> int:
        """Number of outputs that it reads."""
        return len(self._basis) + self._ends.shape[1] + 1

    def __call__(self, outputs: Single, rows: NDArray[np.int64]) -> Single:
        """Gradient of the mean loss of a batch; see `network.Loss`."""
        k = len(self._basis)
        gap = (outputs[..., :k] @ self._basis - self._z[rows]) * self._known[rows] * self._weight
        logits = outputs[..., k:-1]
        share = np.exp(logits - logits.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        log_epochs = self._log_epochs[rows]
        late = np.where(np.isfinite(log_epochs), outputs[..., -1] - log_epochs, 0.0)
        parts = [gap @ self._basis.T, share - self._ends[rows], late[..., None]]
        gradient: Single = np.concatenate(parts, axis=-1) * np.float32(2.0 / rows.shape[1])
        return gradient
