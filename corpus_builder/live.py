"""The real trainer as a benchmark: a query trains, as the study behind the corpus would have.

Reached as `corpus.benchmark(dataset, kind="live")`, through the entry point group `metaquery.benchmarks`. A config that
is asked for again at a later epoch goes on from its checkpoint, and trains the new epochs only.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from corpus_builder.datasets import dataset_key
from corpus_builder.execute.work import Place, is_classical, load_study_data, run_any_trial
from corpus_builder.replay import studies_of
from corpus_builder.study import Study
from corpus_builder.train.records import TrialResult, TrialSpec
from metaquery.benchmarks.base import Benchmark
from metaquery.errors import InvalidInput, UnknownName
from metaquery.metrics import metric as metric_called
from metaquery.space import Config
from metaquery.types import Curve, Status

if TYPE_CHECKING:
    from corpus_builder.train.records import TrialData

_alone = threading.Lock()  # trials share the state of their process: one is trained at a time


class Sealed(Protocol):
    """What is needed of the corpus: where it is, and its hash."""

    root: Path
    hash: str


class LiveBenchmark(Benchmark):
    """One dataset, fold and seed of a study, trained when it is asked for.

    The same config, epoch, fold and seed as a trial of the corpus gives the value of that trial, on the same kind of
    device with the same versions. Costs are the seconds measured this time. Trials are trained one at a time, whatever
    thread asks.
    """

    kind: ClassVar[str] = "live"

    def __init__(
        self,
        study: Study,
        place: Place,
        *,
        dataset: str,
        metric: str,
        fold: int,
        seed: int,
        corpus_hash: str,
        checkpoints: Path | None = None,
    ) -> None:
        """Train on `place`; `checkpoints` is a directory that lasts, by default one that goes with the benchmark."""
        from corpus_builder.train.device import device_name, resolve_device

        card = study.card(dataset)
        if not 0 <= fold < card.split.folds:
            raise UnknownName.of(f"fold of {dataset}", fold, map(str, range(card.split.folds)))
        if seed < 0:
            raise InvalidInput(f"the seed of a trial must not be negative, got {seed}")
        super().__init__(
            dataset=dataset,
            space=study.space_for(card),
            metric=metric_called(metric),
            epochs=study.epochs,
            fold=fold,
            seed=seed,
            source=device_name(resolve_device(place.device)),
        )
        self._study = study
        self._place = place
        self._key = dataset_key(card, study.size(card), study.caps)
        self._corpus_hash = corpus_hash
        self._results: dict[Config, TrialResult] = {}
        self._ended: set[Config] = set()
        if checkpoints is None:
            checkpoints = Path(tempfile.mkdtemp(prefix="medcurves-live-"))
            weakref.finalize(self, shutil.rmtree, checkpoints, ignore_errors=True)
        self._checkpoints = checkpoints

    @classmethod
    def from_corpus(
        cls,
        corpus: Sealed,
        *,
        dataset: str,
        metric: str,
        fold: int,
        seed: int,
        data_root: str | Path | None = None,
        weights_root: str | Path | None = None,
        device: str = "cpu",
        checkpoints: str | Path | None = None,
    ) -> LiveBenchmark:
        """The study that `corpus` was made by, the latest that has `dataset`.

        The roots are by default MEDCURVES_DATA and MEDCURVES_WEIGHTS. Raises CorpusError for a corpus without a study,
        UnknownName for a dataset that it does not have.
        """
        studies = [
            Study.from_document(document, what=f"the study of {corpus.root}") for document in studies_of(corpus.root)
        ]
        names = {card.name: study for study in reversed(studies) for card in study.cards}
        if dataset not in names:
            raise UnknownName.of("dataset", dataset, names)
        roots = _root(data_root, "MEDCURVES_DATA"), _root(weights_root, "MEDCURVES_WEIGHTS")
        return cls(
            names[dataset],
            Place(*roots, device),
            dataset=dataset,
            metric=metric,
            fold=fold,
            seed=seed,
            corpus_hash=corpus.hash,
            checkpoints=None if checkpoints is None else Path(checkpoints),
        )

    @property
    def stamp(self) -> dict[str, Any]:
        """What identifies this benchmark on every result: the device, and the corpus whose study it follows."""
        return {**super().stamp, "corpus": self._corpus_hash}

    def _curve(self, config: Config) -> Curve:
        return self._curve_until(config, self.epochs)

    def _curve_until(self, config: Config, epoch: int) -> Curve:
        spec = TrialSpec(
            self.dataset, self._key, self.fold, config, self.seed, self.epochs, self._study.time_limit_seconds
        )
        with _alone:
            known = self._results.get(config)
            if known is None or (config not in self._ended and len(known.epochs) < epoch):
                known = self._results[config] = self._train(spec, epoch)
        losses = np.array(
            [[self._loss(row[f"{side}_{self.metric.name}"]) for side in ("val", "test")] for row in known.epochs]
        )
        value, test = losses.reshape(-1, 2).T
        seconds = np.array([row["train_seconds"] + row["eval_seconds"] for row in known.epochs], np.float64)
        if known.epochs and is_classical(spec):
            return Curve.without_epochs(float(value[0]), float(test[0]), float(seconds[0]), known.status, self.epochs)
        lost = 0.0 if known.status is Status.COMPLETED else max(0.0, known.total_seconds - float(seconds.sum()))
        return Curve(value, test, seconds, known.status, self.epochs, lost)

    def _train(self, spec: TrialSpec, until: int) -> TrialResult:
        data = load_study_data(self._study, self.dataset, self.fold, self._place.data_root)
        if is_classical(spec):
            self._ended.add(spec.config)
            return run_any_trial(spec, data, self._place)
        return self._advance(spec, data, until)

    def _advance(self, spec: TrialSpec, data: TrialData, until: int) -> TrialResult:
        from corpus_builder.train.checkpoint import Checkpoint
        from corpus_builder.train.device import resolve_device
        from corpus_builder.train.trial import advance_trial

        device = resolve_device(self._place.device)
        path = self._checkpoints / f"{spec.trial_id}-{device.type}.pt"
        start = Checkpoint.load(path) if path.exists() else None
        if start is None or (start.state is not None and len(start.result.epochs) < until):
            start = advance_trial(spec, data, device, self._place.weights_root, until, start)
            start.save(path)
        if start.state is None:
            self._ended.add(spec.config)
        return start.result

    def _loss(self, value: float | None) -> float:
        """The loss of a metric's value, in the single precision of a corpus."""
        return float("nan") if value is None else self.metric.to_loss(float(np.float32(value)))


def _root(given: str | Path | None, variable: str) -> Path | None:
    """The directory `given`, or the one that the environment names."""
    named = os.environ.get(variable) if given is None else given
    return Path(named) if named else None
