"""Fine-tuning on a new dataset, from the recommended configs on, within a time on the real clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metaquery.errors import Interrupted, InvalidInput
from metaquery.optimizers.base import Optimizer
from metaquery.outputs import check_output, new_directory
from metaquery.recommend.new_data import Trainer
from metaquery.space import Config
from metaquery.types import Task

CANDIDATES = 9  # recommended configs that are tried: two halvings by 3

_MARKER = "config.json"
_ENTRIES = frozenset({_MARKER, "model.safetensors", "README.md"})


@dataclass(frozen=True, slots=True)
class Tuned:
    """The `metrics` of the model that was written, by SPLIT_METRIC, `seconds` of the clock, the evaluations, and
    whether Ctrl-C ended them."""

    metrics: dict[str, float]
    seconds: float
    evaluations: int
    interrupted: bool


def check_model_output(out: Path) -> None:
    """Refuse `out` where it holds anything but a model of before."""
    check_output(out, marker=_MARKER, entries=_ENTRIES)


def fine_tune(
    trainer: Trainer,
    configs: list[Config],
    optimizer: Optimizer,
    seconds: float,
    out: Path,
    facts: dict[str, str],
    worst_loss: float,
    say: Callable[[str], None],
) -> Tuned:
    """Let `optimizer` choose among the first of `configs` for `seconds`, and write the best model to `out`.

    An evaluation that would not end in time is cut to the epochs that will, and none is begun where less time is left
    than an epoch took on average; so at most one epoch, of a config that is slower than the others, ends late. Ctrl-C
    ends the time at once: the best model so far is written. Raises InvalidInput where no config can be trained or none
    got anywhere, Interrupted where none had got anywhere before Ctrl-C.
    """
    accepted = tuple([config for config in configs if trainer.accepts(config)][:CANDIDATES])
    if not accepted:
        raise InvalidInput("none of the recommended configs is a network that the corpus's study can train here")
    start = time.monotonic()
    optimizer.bind(Task(trainer.space, trainer.epochs, worst_loss, candidates=accepted))
    evaluations = 0
    epochs: dict[Config, int] = {}  # trained so far
    interrupted = False
    try:
        while True:
            spent = time.monotonic() - start
            if spent + spent / max(1, sum(epochs.values())) > seconds or (suggestion := optimizer.ask()) is None:
                break
            observation, epoch = trainer.train(suggestion.config, suggestion.epoch, seconds - spent)
            epochs[suggestion.config] = epoch
            evaluations += 1
            place = accepted.index(suggestion.config) + 1
            say(
                f"{time.monotonic() - start:7.0f} s  config {place} to epoch {epoch}: {observation.status}"
                + (f", validation loss {observation.value:.4f}" if observation.ok else "")
            )
            if epoch < suggestion.epoch and observation.ok:
                break  # the time is over
            optimizer.tell(suggestion, observation)
    except KeyboardInterrupt:
        interrupted = True
    spent = time.monotonic() - start
    facts = {
        **facts,
        "optimizer": f"{optimizer.name} among {len(accepted)} recommended configs",
        "clock": f"{spent:.0f} s" + (", then interrupted" if interrupted else ""),
    }
    with new_directory(out, marker=_MARKER, entries=_ENTRIES) as work:
        try:
            metrics = trainer.write(work, facts)
        except InvalidInput as error:
            if not interrupted:
                raise
            raise Interrupted("no epoch was finished without a failure, so no model is written") from error
    return Tuned(metrics, spent, evaluations, interrupted)
