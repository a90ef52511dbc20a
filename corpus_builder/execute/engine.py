"""Which engine trains which trials: one at a time, or fused where a calibration of the device found that it pays."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metaquery.errors import InvalidInput

if TYPE_CHECKING:
    from corpus_builder.execute.work import Place
    from corpus_builder.plan import Plan
    from corpus_builder.train.calibration import Calibration
    from corpus_builder.train.records import TrialData, TrialResult, TrialSpec

Engine = Literal["auto", "single", "fused"]


def fused_groups(
    specs: Sequence[TrialSpec], data: TrialData, engine: Engine, calibration: Path | None
) -> list[tuple[list[TrialSpec], int]]:
    """Those of `specs`, all of networks, that are trained together, and how many in one pass.

    `single`: none. `auto`: those for which `calibration` says that it pays. `fused`: all that can be, in passes of the
    best width, or all at once where fusing never pays. Raises InvalidInput where `fused` has no calibration: that is
    where the costs of fused trials come from.
    """
    if engine == "fused" and calibration is None:
        raise InvalidInput("fused trials need a calibration for their costs: give --calibration FILE")
    if engine == "single" or calibration is None:
        return []
    from corpus_builder.train.fused import can_fuse, fusion_key

    known = load_calibration(calibration)
    groups: dict[object, list[TrialSpec]] = {}
    for spec in specs:
        if can_fuse(spec.config):
            groups.setdefault((fusion_key(spec.config), spec.epochs), []).append(spec)
    found = []
    for group in groups.values():
        width = known.best_width(group[0].config, data)
        if len(group) > 1 and (width > 1 or engine == "fused"):
            found.append((group, width if width > 1 else len(group)))
    return found


def run_group(
    specs: Sequence[TrialSpec], width: int, data: TrialData, device: str, weights_root: Path | None, calibration: Path
) -> list[TrialResult]:
    """Train `specs` together, `width` in one pass."""
    from corpus_builder.train.device import resolve_device
    from corpus_builder.train.fused import run_fused

    cost = partial(load_calibration(calibration).epoch_cost, data=data)
    return run_fused(specs, data, resolve_device(device), weights_root, cost, width)


def calibrate_plan(plan: Plan, place: Place, out: Path, widths: Sequence[int] = ()) -> int:
    """Measure what the trials of `plan` need on the device of `place` and `out` does not hold yet; returns how many
    measurements it now has. Each is stored before the next begins."""
    from corpus_builder.execute.work import is_classical, load_study_data
    from corpus_builder.train.calibration import Calibration, calibrate
    from corpus_builder.train.device import resolve_device

    device = resolve_device(place.device)
    known = Calibration.load(out) if out.exists() else None
    seen = set()
    for spec in (trial.spec for trial in plan.trials if not is_classical(trial.spec)):
        if (spec.dataset, spec.config) in seen:
            continue
        seen.add((spec.dataset, spec.config))
        data = load_study_data(plan.study, spec.dataset, spec.fold, place.data_root)
        before = None if known is None else known.size
        known = calibrate(
            [(spec.config, data)],
            device,
            place.weights_root,
            known=known,
            widths=widths,
            progress=lambda line: print(line, file=sys.stderr),
        )
        if known.size != before:
            known.save(out)
    return 0 if known is None else known.size


@cache
def load_calibration(path: Path) -> Calibration:
    """The calibration at `path`, read once."""
    from corpus_builder.train.calibration import Calibration

    return Calibration.load(path)
