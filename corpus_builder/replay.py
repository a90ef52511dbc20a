"""Training a trial of a sealed corpus again, from nothing but what the corpus says about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corpus_builder.execute.work import Place, load_study_data, run_any_trial
from corpus_builder.plan import study_trials
from corpus_builder.study import Study
from corpus_builder.train.records import TrialSpec
from metaquery.errors import CorpusError, InvalidData, UnknownName
from metaquery.schema.documents import MANIFEST
from metaquery.schema.rounding import rounded_curves
from metaquery.schema.tables import from_rows

COSTS = ("train_seconds", "eval_seconds")  # a second run never takes the same time


def replay(root: Path, trial_id: str, place: Place) -> dict[str, float]:
    """The largest absolute difference of every column of the trial's curve between the corpus and a new training.

    Differences are of single-precision values, at the corpus's resolution where it states one, infinite where only one
    of the two is defined. Raises InvalidData where the new training ends otherwise than the stored one.
    """
    study, spec = _spec(root, trial_id)
    (stored,) = _rows(root, "trials", trial_id).to_pylist()
    curve = _rows(root, "curves", trial_id).sort_by("epoch")
    data = load_study_data(study, spec.dataset, spec.fold, place.data_root)
    result = run_any_trial(spec, data, place)
    if (str(result.status), len(result.epochs)) != (stored["status"], len(curve)):
        raise InvalidData(
            f"trial {trial_id} is stored as {stored['status']} after {len(curve)} epochs, "
            f"but ended as {result.status} after {len(result.epochs)} this time: {result.error}"
        )
    again = from_rows(curve.schema, [{"trial_id": trial_id, **row} for row in result.epochs], what="the new curve")
    if "curves" in _manifest(root):
        again = rounded_curves(again)
    names = [name for name in curve.column_names if name not in ("trial_id", "epoch", *COSTS)]
    return {name: _difference(curve[name].to_numpy(), again[name].to_numpy()) for name in names} if len(curve) else {}


def _spec(root: Path, trial_id: str) -> tuple[Study, TrialSpec]:
    """The trial, and the study that asked for it."""
    known: list[str] = []
    for document in studies_of(root):
        study = Study.from_document(document, what=f"the study of {root}")
        specs = {trial.spec.trial_id: trial.spec for trial in study_trials(study)}
        if trial_id in specs:
            return study, specs[trial_id]
        known += specs
    raise UnknownName.of("trial", trial_id, known, hint="or a data card has changed since the corpus was made")


def studies_of(root: Path) -> list[dict[str, Any]]:
    """The studies of a corpus and of the releases that it grew from, the latest first."""
    try:
        provenance = _manifest(root)["provenance"]
        return [dict(made["study"]) for made in (provenance, *provenance.get("earlier", []))]
    except (ValueError, KeyError, TypeError):
        raise CorpusError(
            f"{root / MANIFEST} names no study: only a corpus that the builder sealed can be replayed"
        ) from None


def _manifest(root: Path) -> Any:
    try:
        return json.loads((root / MANIFEST).read_text())
    except OSError:
        raise CorpusError(f"{root} is not a sealed corpus, it has no {MANIFEST}: give the path of one") from None


def _rows(root: Path, name: str, trial_id: str) -> pa.Table:
    try:
        found = pq.read_table(root / f"{name}.parquet", filters=pc.field("trial_id") == trial_id)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(
            f"{root / f'{name}.parquet'} cannot be read ({error}): run  metaquery verify {root}"
        ) from error
    if name == "trials" and not len(found):
        raise UnknownName(f"trial {trial_id} is planned in {root} but was not sealed: it has no row")
    return found


def _difference(old: NDArray[np.float32], new: NDArray[np.float32]) -> float:
    """The largest difference of two curves, (n,), which are NaN where they are not defined."""
    differ = (old != new) & ~(np.isnan(old) & np.isnan(new))
    distance = np.nan_to_num(np.abs(old[differ] - new[differ]), nan=np.inf, posinf=np.inf)
    return float(distance.max(initial=0.0))
