"""A dataset that is in no corpus: read by its card or from a folder, measured as those of the corpus were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.datasets import Card, load_card, prepare_cached, roles
from corpus_builder.execute.work import Place
from corpus_builder.metafeatures.describe import USUAL_SIZES
from corpus_builder.metafeatures.measure import measure, undefined_notes
from corpus_builder.metafeatures.part import TrainingPart
from corpus_builder.recommend.folder import NOTE, folder_card
from corpus_builder.replay import studies_of
from corpus_builder.study import Study
from metaquery.errors import CorpusError, InvalidInput
from metaquery.metrics import metric as metric_called

if TYPE_CHECKING:
    from corpus_builder.recommend.trainer import Trainer


@dataclass(frozen=True)
class NewDataset:
    """The dataset of `card`; `metafeatures` are those of the training part of its first fold that are defined.

    `study` is the one that it is measured and trained as in, with this dataset as its only one; None where the corpus
    was not made by the builder. `notes` are what a reader should know.
    """

    card: Card
    place: Place
    study: Study | None
    metafeatures: dict[str, float]
    notes: list[str]

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.card.name

    @property
    def family(self) -> str:
        """Its family: datasets that share patients or images with it."""
        return self.card.family

    @property
    def n_dims(self) -> int:
        """Spatial dimensions of a sample."""
        return self.card.n_dims

    def trainer(self, metric: str) -> Trainer:
        """What trains on it, choosing by `metric`; InvalidInput where the corpus was not made by the builder."""
        from corpus_builder.recommend.trainer import Trainer

        if self.study is None:
            raise InvalidInput(
                "the configs of this corpus are not the builder's, so they cannot be trained here: leave --live out"
            )
        return Trainer(self.study, self.card, self.place, metric_called(metric))


def open_new_data(
    roots: Sequence[Path],
    *,
    card: str | None,
    images: Path | None,
    data_root: Path | None,
    weights_root: Path | None,
    device: str,
) -> NewDataset:
    """The dataset of `card`, a name or a path, or of the folder `images`, at the size of the corpora at `roots`.

    Raises InvalidInput where the files are not there or cannot be used.
    """
    if images is not None:
        study = _study(roots, 2)
        size = USUAL_SIZES[2] if study is None else tuple(study.document["image_size"]["2d"])
        found, data_root = folder_card(images, size), images.absolute().parent
    else:
        found = load_card("" if card is None else card)
        study = _study(roots, found.n_dims)
    if study is not None:
        study = replace(study, document={**study.document, "datasets": [found.name]}, cards=(found,))
    size = USUAL_SIZES[found.n_dims] if study is None else study.size(found)
    data = prepare_cached(found, data_root, size)
    caps = {} if study is None else study.caps
    measured = measure(TrainingPart.of(data, roles(data, 0, caps), weights_root))
    values = {row["name"]: row["value"] for row in measured.rows}
    return NewDataset(
        found,
        Place(data_root, weights_root, device),
        study,
        {name: value for name, value in values.items() if value is not None and math.isfinite(value)},
        [*([] if images is None else [NOTE]), *undefined_notes([(found.name, measured)])],
    )


def _study(roots: Sequence[Path], n_dims: int) -> Study | None:
    """The latest study of the corpora that has images of `n_dims` dimensions."""
    for root in roots:
        try:
            documents = studies_of(root)
        except CorpusError:  # it was imported
            continue
        for document in documents:
            if f"{n_dims}d" in document["image_size"]:
                return Study.from_document(document, what=f"the study of {root}")
    return None
