"""A study: the checked YAML that says what a corpus is to be made of (`schemas/study.schema.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from corpus_builder.backbones import member_spec
from corpus_builder.backbones.portfolios import expand_portfolios
from corpus_builder.datasets import Card, load_card
from corpus_builder.space import search_space
from metaquery.errors import InvalidInput
from metaquery.schema import check_document
from metaquery.space import SearchSpace
from metaquery.types import MAX_EPOCHS


@dataclass(frozen=True)
class Study:
    """A checked study; `document` is its JSON form, from which `Study.from_document` makes it again."""

    document: Mapping[str, Any]
    cards: tuple[Card, ...]
    backbones: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the corpus."""
        return str(self.document["name"])

    @property
    def version(self) -> str:
        """Release of the corpus."""
        return str(self.document["version"])

    @property
    def epochs(self) -> int:
        """Full fidelity."""
        return int(self.document.get("epochs", MAX_EPOCHS))

    @property
    def folds(self) -> list[int]:
        """Folds of every dataset."""
        return list(self.document.get("folds", [0]))

    @property
    def seeds(self) -> list[int]:
        """Seeds of every config."""
        return list(self.document.get("seeds", [0]))

    def repeats(self, card: Card) -> list[tuple[int, int]]:
        """The further (fold, seed) of the configs that are repeated on `card`: a new fold or a new seed, not both."""
        seeds = self.document.get("repeats", {}).get("seeds", [])
        folds = [(fold, seed) for fold in self.all_folds(card)[len(self.folds) :] for seed in self.seeds]
        return folds + [(fold, seed) for fold in self.folds for seed in seeds]

    @property
    def repeated_share(self) -> float:
        """Share of the grid configs of each dataset and backbone that are repeated."""
        return float(self.document["repeats"]["share"]) if "repeats" in self.document else 0.0

    def all_folds(self, card: Card) -> list[int]:
        """Folds of `card` that have a trial; a published split is one fold, whatever the folds of the repeats."""
        return [*self.folds, *(fold for fold in self._further_folds if fold < card.split.folds)]

    @property
    def _further_folds(self) -> list[int]:
        return list(self.document.get("repeats", {}).get("folds", []))

    @property
    def space(self) -> SearchSpace:
        """The search space of all backbones; its core grid is that of the study."""
        return self._gridded(search_space(self.backbones))

    def space_for(self, card: Card) -> SearchSpace:
        """The search space of the backbones that take samples like those of `card`."""
        return self._gridded(search_space(self.backbones_for(card)))

    def _gridded(self, space: SearchSpace) -> SearchSpace:
        grid = self.document["designs"].get("grid", True)
        return space if grid is True else space.with_grid({name: grid[name] for name in grid if name in space.by_name})

    @property
    def caps(self) -> dict[str, int | None]:
        """Most samples of a role, by role."""
        return dict(self.document.get("caps", {}))

    @property
    def time_limit_seconds(self) -> float | None:
        """Time limit of a trial."""
        limit = self.document.get("time_limit_seconds")
        return None if limit is None else float(limit)

    @property
    def trials_per_unit(self) -> int:
        """Trials that are run and stored together."""
        return int(self.document.get("trials_per_unit", 4))

    def size(self, card: Card) -> tuple[int, ...]:
        """Spatial size that the samples of `card` are resized to."""
        return tuple(self.document["image_size"][f"{card.n_dims}d"])

    def card(self, dataset: str) -> Card:
        """The card of one of the study's datasets."""
        return next(card for card in self.cards if card.name == dataset)

    def backbones_for(self, card: Card) -> list[str]:
        """The study's backbones that take samples like those of `card`."""
        return [name for name in self.backbones if member_spec(name).n_dims == card.n_dims]

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, what: str = "study") -> Study:
        """Check `document` against the schema, the cards and the backbones."""
        check_document("study", document, what=what)
        cards = tuple(load_card(name) for name in document["datasets"])
        document = {**document, "backbones": expand_portfolios(document["backbones"])}
        for name in document["backbones"]:
            member_spec(name)
        if len({card.name for card in cards}) < len(cards):
            raise InvalidInput(f"{what}: two of its data cards define a dataset of the same name; rename one of them")
        study = cls(document, cards, tuple(document["backbones"]))
        study._check_designs(what)
        for card in cards:
            if f"{card.n_dims}d" not in document["image_size"]:
                raise InvalidInput(f"{what}: {card.name} is {card.n_dims}-D, so image_size needs {card.n_dims}d: [...]")
            if missing := [fold for fold in study.folds if fold >= card.split.folds]:
                raise InvalidInput(
                    f"{what}: {card.name} has no fold {missing[0]}: it has {card.split.folds}, counted from 0"
                )
            if not study.backbones_for(card):
                raise InvalidInput(f"{what}: no backbone takes {card.n_dims}-D images, which {card.name} has; add one")
        return study

    def _check_designs(self, what: str) -> None:
        """Refuse a grid of hyperparameters or values that are not in the space, and repeats of nothing."""
        grid = self.document["designs"].get("grid")
        if isinstance(grid, dict):
            if "backbone" in grid:
                raise InvalidInput(f"{what}: designs.grid names hyperparameters: give backbones under backbones")
            try:
                search_space(self.backbones).with_grid(grid)
            except InvalidInput as error:
                raise InvalidInput(f"{what}: designs.grid: {error}") from None
        if "repeats" in self.document:
            if grid is None:
                raise InvalidInput(f"{what}: repeats are of configs of the grid: add grid to designs")
            most = max(card.split.folds for card in self.cards)
            if missing := [fold for fold in self._further_folds if fold >= most]:
                raise InvalidInput(
                    f"{what}: no dataset has the fold {missing[0]} of the repeats: they have at most {most}"
                )
            for name, own in (("folds", self.folds), ("seeds", self.seeds)):
                twice = sorted(set(own) & set(self.document["repeats"].get(name, [])))
                if twice:
                    raise InvalidInput(f"{what}: repeats.{name} must be further ones, but {twice} are in {name}")


def load_study(path: Path) -> Study:
    """Read and check a study file."""
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidInput(f"cannot read the study {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise InvalidInput(
            f"{path} is not a study: expected a mapping with name, datasets, backbones ..., got {document!r}"
        )
    return Study.from_document(document, what=str(path))
