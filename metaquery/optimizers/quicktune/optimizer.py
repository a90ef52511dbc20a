"""The loop of Quick-Tune: train one epoch further whatever promises the most improvement per second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from metaquery.errors import InvalidInput, LeakageError
from metaquery.optimizers.base import Optimizer
from metaquery.optimizers.history import History
from metaquery.optimizers.quicktune.acquisition import best_at, expected_improvement
from metaquery.optimizers.quicktune.artefact import Artefact, Settings
from metaquery.optimizers.quicktune.encoding import Encoder, LossScale
from metaquery.optimizers.quicktune.refitting import refit_policy
from metaquery.space import Config
from metaquery.types import Observation, Status, Suggestion, Task

POOL = 500  # configs that stand for a space of which any config can be evaluated


class Quicktune(Optimizer):
    """Quick-Tune (Arango et al., ICLR 2024), implemented anew from the paper's idea.

    It starts one config for one epoch, and from then on trains that config on by one epoch, or starts that one,
    whose next epoch has the highest expected improvement per predicted second. A config whose evaluation fails is
    given up. `meta`, `cost`, `grey_box` and `metafeatures` turn its parts off: learning from other datasets,
    dividing by the cost, reading the curve so far, reading the dataset's meta-features.

    The predictors come from `artefact`, a file of `metaquery meta-train`, or where there is none from the history,
    by `meta_steps` of meta-training the first time and from the user's cache after that. Where nothing may train,
    they start from random weights, as they do without `meta`. That training comes before the study and is not charged;
    the stamp says what it took. `refit` is how the predictors follow the study: `warm`, by few steps where their
    fit has become worse, or `full`, the paper's own schedule.
    """

    name = "quicktune"
    needs_history = True
    defaults: ClassVar[Mapping[str, Any]] = {
        "meta": True,
        "cost": True,
        "grey_box": True,
        "metafeatures": True,
        "artefact": "",
        "meta_steps": 10_000,
        "refit": "warm",
    }
    fixed: ClassVar[Mapping[str, Any]] = {}  # what a variant turns off for good
    _trained_on: Artefact | None = None
    packages = ("safetensors",)
    extra = "quicktune"

    def __init__(self, seed: int = 0, *, history: History | None = None, **options: Any) -> None:
        super().__init__(seed, history=history, **options)
        self._options = {**self.options, **self.fixed}

    def prepare(self) -> None:
        """Meta-train, unless the cache has it."""
        self._meta_trained()

    @property
    def stamp(self) -> dict[str, Any]:
        """What identifies this optimizer on every result, and once it is bound, what meta-trained it."""
        artefact = self._trained_on
        if artefact is None:
            return super().stamp
        report = {name: artefact.report[name] for name in ("training", "validation", "seconds")}
        return super().stamp | {"meta_training": {"key": artefact.key, **report, "charged": False}}

    def _bind(self, task: Task) -> None:
        from metaquery.optimizers.quicktune.surrogate import Surrogate

        self._rng = np.random.default_rng(self.seed)
        pool = task.candidates or [task.space.sample(self._rng) for _ in range(POOL)]
        # By content, so that the order in which candidates are given decides nothing.
        self._configs = sorted(set(pool), key=lambda config: config.config_id)
        self._row = {config: row for row, config in enumerate(self._configs)}
        self._epochs = np.zeros(len(self._configs), dtype=np.int64)  # trained so far
        self._seconds = np.zeros(len(self._configs))
        self._open = np.ones(len(self._configs), dtype=bool)  # neither running, failed nor fully trained
        artefact = self._meta_trained()
        encoder = _plain_encoder(self._configs, task) if artefact is None else artefact.encoder
        if task.max_epochs > encoder.epochs:
            raise InvalidInput(
                f"{self.name} was meta-trained on {encoder.epochs} epochs, the task has {task.max_epochs}: "
                "meta-train it on curves of that length"
            )
        self._trained_on = artefact
        self._surrogate = Surrogate(
            self._configs,
            encoder,
            self._history.target if self._history is not None else {},
            grey_box=self._options["grey_box"],
            cost=self._options["cost"],
            seed=self.seed,
            policy=refit_policy(self._options["refit"]),
            artefact=artefact,
        )

    def _ask(self, token: int) -> tuple[Config, int] | None:  # noqa: ARG002
        rows = np.flatnonzero(self._open)
        if not len(rows):
            return None
        epochs = self._epochs[rows] + 1
        losses = self._surrogate.table.losses
        if self._epochs.any():
            predicted = self._surrogate.predict([self._row[s.config] for s in self._pending.values()])
            best = best_at(losses, epochs)
            value = expected_improvement(predicted.mean[rows], predicted.deviation[rows], best)
            place = int(np.argmax(value / predicted.seconds[rows]))
        else:
            place = int(self._rng.integers(len(rows)))
        self._open[rows[place]] = False
        return self._configs[rows[place]], int(epochs[place])

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:
        row = self._row[suggestion.config]
        if not observation.ok or observation.status is Status.EARLY_STOPPED:
            return  # one that had stopped by its own rule has nothing new to tell either
        seconds = observation.cost_seconds - self._seconds[row]
        self._surrogate.observe(row, suggestion.epoch, loss, seconds)
        self._epochs[row] = suggestion.epoch
        self._seconds[row] = observation.cost_seconds
        self._open[row] = suggestion.epoch < self.task.max_epochs

    def _meta_trained(self) -> Artefact | None:
        """The predictors as other datasets left them; None where nothing trains them."""
        options = self._options
        if not options["meta"]:
            return None
        if options["artefact"]:
            artefact = Artefact.load(options["artefact"])
            self._check(artefact)
            return artefact
        if not self.history.training:
            return None
        from metaquery.optimizers.quicktune.meta_training import obtain

        settings = Settings(options["meta_steps"], options["grey_box"], options["metafeatures"])
        return obtain(self.history.training, settings, self.history.validation)

    def _check(self, artefact: Artefact) -> None:
        for flag in ("grey_box", "metafeatures"):
            if getattr(artefact.settings, flag) != self._options[flag]:
                raise InvalidInput(
                    f"artefact {self._options['artefact']} was meta-trained with {flag}={not self._options[flag]}: "
                    f"give {self.name} the same, or another artefact"
                )
        if self.history.target_family in artefact.families:
            raise LeakageError(
                f"artefact {self._options['artefact']} was meta-trained on the family of the target, "
                f"{self.history.target_family}: meta-train one without it"
            )


def _plain_encoder(configs: list[Config], task: Task) -> Encoder:
    return Encoder(Encoder.axes_of(configs), task.max_epochs, LossScale(task.worst_loss, 0.0, 1.0))
