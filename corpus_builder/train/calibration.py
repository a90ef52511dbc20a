"""What an epoch costs on a device: steps and evaluations measured once, warm and alone, put together for any config.

A measurement is a short run of the single trainer, the reference, on a few samples of the real data. What a step costs
is the measurement of the config's backbone, batch size and freezing, plus, for each hyperparameter that makes a step
dearer, what it added when it was the only change.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

from corpus_builder.files import replace_file
from corpus_builder.space import Repeated, repeated_parts, search_space
from corpus_builder.train.device import Clock, device_name
from corpus_builder.train.evaluate import evaluate
from corpus_builder.train.fused import can_fuse, run_fused
from corpus_builder.train.records import EpochCost, Part, TrialData, TrialSpec
from corpus_builder.train.trial import run_trial
from metaquery.errors import InvalidData, InvalidInput
from metaquery.space import Config
from metaquery.types import Status

_STEPS = 3
_EPOCHS = 6  # the first one is not counted
_EVALUATED = 64
_EXTRA_BATCH = 32

# What can make a step dearer, by hyperparameter: its value where it costs nothing more.
_FREE: Mapping[str, Any] = {
    "optimizer": "adamw",
    "augmentation": "none",
    "mixing": "none",
    "gradient_clipping": 0.0,
    "ema": 0.0,
    "l2_sp": 0.0,
    "bss": 0.0,
    "delta": 0.0,
    "stochastic_norm": 0.0,
}
# Those whose work grows with the batch; the others work on the weights.
_PER_SAMPLE = ("augmentation", "mixing", "delta", "stochastic_norm")


class Situation(NamedTuple):
    """What decides the cost of a step, apart from extras: `kept` are the parts for which frozen stages ran before."""

    backbone: str
    channels: int
    size: tuple[int, ...]
    batch_size: int
    freeze: float
    kept: Repeated

    def __str__(self) -> str:
        size = "x".join(map(str, self.size))
        kept = "" if self.kept == "none" else f", activations kept of {self.kept} parts"
        return f"{self.backbone} at {size}, batch {self.batch_size}, freeze {self.freeze:g}{kept}"


class Measurement(NamedTuple):
    """Median seconds of a training step and of an evaluated sample, and the peak memory where the device tells it."""

    step_seconds: float
    sample_seconds: float
    peak_memory_bytes: int | None


Extra = tuple[str, int, tuple[int, ...], str, str]


class Calibration:
    """Measurements on one device.

    `extras` are seconds per step, or per sample of a batch, that one value of a hyperparameter adds, by backbone,
    channels, size, hyperparameter and value. `fused` is the share of a trial's own time that it needs when so many are
    fused, by situation and number.
    """

    def __init__(
        self,
        device: str,
        base: Mapping[Situation, Measurement],
        extras: Mapping[Extra, float],
        fused: Mapping[tuple[Situation, int], float],
    ) -> None:
        self.device, self.base, self.extras, self.fused = device, dict(base), dict(extras), dict(fused)

    @property
    def size(self) -> int:
        """How many measurements it holds."""
        return len(self.base) + len(self.extras) + len(self.fused)

    def best_width(self, config: Config, data: TrialData) -> int:
        """How many trials like one of `config` on `data` should be fused; 1 where that was not found to pay."""
        here = situation(config, data)
        shares = {width: share for (other, width), share in self.fused.items() if other == here and share < 1}
        return min(shares, key=lambda width: shares[width], default=1)

    def epoch_cost(self, config: Config, epoch: int, data: TrialData) -> EpochCost:
        """Seconds of one epoch, counted from 1, of a trial of `config` on `data`, without what precedes the first.

        Raises InvalidInput where something that the config needs was not measured.
        """
        here = situation(config, data)
        if epoch <= int(config.get("linear_probing_epochs", 0)):
            here = here._replace(freeze=1.0, kept="none")
        try:
            measured = self.base[here]
            step = measured.step_seconds
            for name, value in _extras_of(config):
                added = self.extras[here.backbone, here.channels, here.size, name, value]
                step += added * (here.batch_size if name in _PER_SAMPLE else 1)
        except KeyError as error:
            raise InvalidInput(
                f"the calibration of {self.device} lacks {error.args[0]}: measure it with  corpus-builder calibrate"
            ) from None
        steps = len(data.train.labels) // min(here.batch_size, len(data.train.labels))
        evaluated = sum(len(part.labels) for part in (data.val, data.test))
        metrics = sum(metric_seconds(len(part.labels), data.n_classes) for part in (data.val, data.test))
        return EpochCost(steps * step, evaluated * measured.sample_seconds + metrics)

    def to_json(self) -> dict[str, Any]:
        """The JSON form; `from_json` reads it back."""
        return {
            "device": self.device,
            "base": [{**key._asdict(), **value._asdict()} for key, value in self.base.items()],
            "extras": [[*key, value] for key, value in self.extras.items()],
            "fused": [{**key._asdict(), "width": width, "share": value} for (key, width), value in self.fused.items()],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Calibration:
        """Read the JSON form."""

        def key(row: Mapping[str, Any]) -> Situation:
            values = dict(row, size=tuple(row["size"]))
            return Situation(*(values[name] for name in Situation._fields))

        base = {key(row): Measurement(*(row[n] for n in Measurement._fields)) for row in document["base"]}
        extras = {(row[0], row[1], tuple(row[2]), row[3], row[4]): row[5] for row in document["extras"]}
        fused = {(key(row), row["width"]): row["share"] for row in document["fused"]}
        return cls(document["device"], base, extras, fused)

    def save(self, path: Path) -> None:
        """Write to `path`, whole or not at all."""
        with replace_file(path) as partial:
            partial.write_text(json.dumps(self.to_json(), indent=1))

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote; InvalidInput or InvalidData where it is missing or damaged."""
        try:
            return cls.from_json(json.loads(path.read_text()))
        except OSError as error:
            raise InvalidInput(f"cannot read the calibration {path}: {error.strerror}") from None
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InvalidData(
                f"{path} is not a calibration ({error!r}): make one with  corpus-builder calibrate"
            ) from None


def situation(config: Config, data: TrialData) -> Situation:
    """The situation of `config` on `data`."""
    channels, *size = data.train.images.shape[1:]
    freeze = float(config.get("freeze", 0.0))
    return Situation(
        str(config["backbone"]), channels, tuple(size), int(config["batch_size"]), freeze, repeated_parts(config)
    )


def calibrate(
    needed: Iterable[tuple[Config, TrialData]],
    device: torch.device,
    weights_root: Path | None,
    *,
    known: Calibration | None = None,
    widths: Sequence[int] = (),
    progress: Callable[[str], None] = lambda _line: None,
) -> Calibration:
    """Measure on `device` what the configs on their data need and `known` does not have yet.

    For each of `widths`, what fusing so many trials saves is measured too. `progress` is called with a line of text
    before each measurement. Raises InvalidInput where `known` is of another device or a measurement fails.
    """
    found = known or Calibration(device_name(device), {}, {}, {})
    if found.device != device_name(device):
        raise InvalidInput(
            f"the calibration is of {found.device}, this is {device_name(device)}: write to another file"
        )
    for config, data in needed:
        here = situation(config, data)
        situations = [here]
        if int(config.get("linear_probing_epochs", 0)):
            situations.append(here._replace(freeze=1.0, kept="none"))
        plain = here._replace(batch_size=_EXTRA_BATCH, freeze=0.0, kept="none")
        wanted = [extra for extra in _extras_of(config) if (*here[:3], *extra) not in found.extras]
        for one in (*situations, *([plain] if wanted else ())):
            if one not in found.base:
                progress(str(one))
                found.base[one] = _measure(one, {}, data, device, weights_root)
        for name, value in wanted:
            progress(f"{here.backbone} {here.size} {name} {value}")
            changed = _measure(plain, {name: config[name]}, data, device, weights_root)
            added = max(0.0, changed.step_seconds - found.base[plain].step_seconds)
            found.extras[*here[:3], name, value] = added / (_EXTRA_BATCH if name in _PER_SAMPLE else 1)
        for width in widths:
            if can_fuse(config) and (here, width) not in found.fused:
                progress(f"{here}, {width} fused")
                found.fused[here, width] = _fused_share(here, width, data, device, weights_root)
    return found


@cache
def metric_seconds(n: int, n_classes: int) -> float:
    """Seconds that the metrics of `n` predictions take."""
    rng = np.random.default_rng(0)
    y_true = np.arange(n) % n_classes
    y_prob = rng.dirichlet(np.ones(n_classes), n).astype(np.float32)
    seconds = []
    for _ in range(3):
        started = perf_counter()
        evaluate(y_true, y_prob, "val")
        seconds.append(perf_counter() - started)
    return statistics.median(seconds)


def _extras_of(config: Config) -> list[tuple[str, str]]:
    """The values of `config` that make its steps dearer, as text where they do it by kind and not by amount."""
    found = []
    for name, free in _FREE.items():
        if name in config and config[name] != free:
            found.append((name, str(config[name]) if name in ("optimizer", "augmentation") else "on"))
    return found


def _measure(
    here: Situation, change: Mapping[str, Any], data: TrialData, device: torch.device, weights_root: Path | None
) -> Measurement:
    """A short run of the single trainer in the situation `here`, with `change` in its config."""
    spec = _spec(here, change, _EPOCHS)
    result = run_trial(spec, _few(here, data), device, weights_root, repeated=here.kept)
    if result.status is not Status.COMPLETED:
        raise InvalidInput(f"cannot calibrate {here}: the run ended as {result.status}: {result.error}")
    rows = result.epochs[1:]
    step = statistics.median(row["train_seconds"] for row in rows) / _STEPS
    metrics = 2 * metric_seconds(_EVALUATED, data.n_classes)
    sample = (statistics.median(row["eval_seconds"] for row in rows) - metrics) / (2 * _EVALUATED)
    return Measurement(step, max(sample, 0.0), result.peak_memory_bytes)


def _fused_share(
    here: Situation, width: int, data: TrialData, device: torch.device, weights_root: Path | None
) -> float:
    """Time of an epoch of a trial among `width` fused ones, over that of a trial alone."""
    few, short, long = _few(here, data), 2, 2 + _EPOCHS

    def seconds(run: Callable[[int], object]) -> float:
        run(short)  # warms up
        clock = Clock(device)
        run(short)
        before = clock.elapsed()
        run(long)
        return clock.elapsed() - 2 * before

    def fused(epochs: int) -> object:
        specs = [replace(_spec(here, {}, epochs), seed=seed) for seed in range(width)]
        free = EpochCost(0.0, 0.0)
        return run_fused(specs, few, device, weights_root, lambda _config, _epoch: free, repeated=here.kept)

    def single(epochs: int) -> object:
        return run_trial(_spec(here, {}, epochs), few, device, weights_root, repeated=here.kept)

    return seconds(fused) / (width * seconds(single))


def _spec(here: Situation, change: Mapping[str, Any], epochs: int) -> TrialSpec:
    space = search_space([here.backbone])
    frozen = {"freeze": here.freeze} if here.freeze else {}  # a hyperparameter of pretrained backbones alone
    config = space.complete({"batch_size": here.batch_size, **frozen, **change})
    return TrialSpec("calibration", "", 0, config, 0, epochs)


def _few(here: Situation, data: TrialData) -> TrialData:
    """A few samples of `data`: enough for some steps of the batch size and a short evaluation."""
    train = _first(data.train, _STEPS * here.batch_size)
    return replace(data, train=train, val=_first(data.val, _EVALUATED), test=_first(data.test, _EVALUATED))


def _first(part: Part, n: int) -> Part:
    """`n` samples of `part`, spread over it so that every class is there, again and again where it has fewer."""
    rows = np.arange(n) * len(part.labels) // n if n <= len(part.labels) else np.arange(n) % len(part.labels)
    return Part(part.images[rows], part.labels[rows])
