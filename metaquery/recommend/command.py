"""What the command `metaquery recommend` does."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from metaquery.errors import Interrupted, InvalidInput
from metaquery.recommend.held_out import METHODS, held_out
from metaquery.recommend.knowledge import read_knowledge
from metaquery.recommend.live import CANDIDATES, fine_tune
from metaquery.recommend.new_data import NewData, open_new_data
from metaquery.recommend.recommendation import Recommendation, recommend

if TYPE_CHECKING:
    from metaquery.corpus import Corpus


def study(corpus: Corpus, out: Path | None, say: Callable[[str], None]) -> None:
    """Say whether recommendations help on held-out families, and write the table to the CSV file `out`."""
    rows = []
    for n_dims in sorted(set(corpus.table("datasets", ["n_dims"])["n_dims"].to_pylist())):
        found = held_out(read_knowledge(corpus, n_dims))
        say(f"{found.describe()}\n")
        rows += [{"n_dims": n_dims, **row} for row in found.rows()]
    if out is not None:
        try:
            with out.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, ["n_dims", "dataset", "family", *METHODS], lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        except OSError as error:
            raise InvalidInput(f"cannot write {out}: {error.strerror or error}") from error
        say(f"written to {out}")


def advise(
    corpus: Corpus,
    *,
    card: str | None,
    images: Path | None,
    data_root: Path | None,
    weights_root: Path | None,
    device: str,
    top: int,
    say: Callable[[str], None],
) -> tuple[NewData, Recommendation]:
    """Measure the dataset, and say what is recommended for it."""
    if (card is None) == (images is None):
        raise InvalidInput("expected one of --card CARD and --images FOLDER, the dataset to recommend for")
    if top < 1:
        raise InvalidInput(f"--top is a number of configs, at least 1, got {top}")
    place = {"card": card, "images": images, "data_root": data_root, "weights_root": weights_root, "device": device}
    data = open_new_data(corpus.roots, **place)
    found = recommend(
        read_knowledge(corpus, data.n_dims),
        data.metafeatures,
        name=data.name,
        family=data.family,
        top=max(top, CANDIDATES),
    )
    say(f"{data.name}, {len(data.metafeatures)} meta-features measured on its training part")
    say(found.describe(top))
    for note in data.notes:
        say(f"note: {note}")
    return data, found


def tune(
    corpus: Corpus,
    data: NewData,
    recommendation: Recommendation,
    *,
    optimizer: str,
    seconds: float,
    out: Path,
    say: Callable[[str], None],
) -> None:
    """Fine-tune from what is recommended, and write the model to the directory `out`.

    Raises Interrupted after Ctrl-C, with the best model so far written.
    """
    from metaquery.evaluation.histories import Histories
    from metaquery.optimizers import optimizer as make_optimizer
    from metaquery.optimizers import optimizer_class
    from metaquery.optimizers.history import History

    known = recommendation.knowledge
    learned = None
    if optimizer_class(optimizer).needs_history:
        training = Histories(corpus, None, 0, 0).training(known.datasets)
        learned = History(training, data.metafeatures, data.family)
    made = make_optimizer(optimizer, seed=0, history=learned)
    facts = {
        "recommended by": f"corpus {corpus.name} {corpus.version} ({corpus.hash[:12]})",
        "budget": f"{seconds:g} s",
    }
    configs = [item.config for item in recommendation.suggested]
    tuned = fine_tune(data.trainer(known.metric.name), configs, made, seconds, out, facts, known.metric.worst_loss, say)
    name = known.metric.name
    values = (f"{split} {name} {tuned.metrics[f'{split}_{name}']:.4f}" for split in ("val", "test"))
    say(f"{tuned.evaluations} evaluations in {tuned.seconds:.0f} s; {', '.join(values)}")
    say(f"written to {out}")
    if tuned.interrupted:
        raise Interrupted(f"interrupted; the best model so far is in {out}")
