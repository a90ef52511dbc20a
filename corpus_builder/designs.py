"""The configs of a study's designs, and the order in which the trials of a dataset and backbone tell the most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from corpus_builder.datasets import Card
from corpus_builder.study import Study
from metaquery.space import Config, Distances, SearchSpace, content_id

GRID, SOBOL = "grid", "sobol"


@dataclass(frozen=True, slots=True)
class Draw:
    """A config that a design asks for, with a fold and a seed."""

    design: str
    config: Config
    fold: int
    seed: int


def cells(study: Study, card: Card) -> dict[str, list[Draw]]:
    """The draws of the study on the dataset of `card`, by backbone, those that tell the most first.

    First comes the default config, or what is nearest to it. Then every design goes on with the config that is
    farthest from all before it, both designs in proportion to their size, each on the study's first fold with its first
    seed; the repeats of a config follow it. The study's other folds and seeds come after that, in the same order.
    """
    by_backbone: dict[str, dict[str, list[Config]]] = {}
    for design, config in _configs(study, card):
        by_backbone.setdefault(str(config["backbone"]), {}).setdefault(design, []).append(config)
    space = study.space_for(card)
    return {
        backbone: list(_draws(study, card, space.restrict("backbone", [backbone]), designs))
        for backbone, designs in by_backbone.items()
    }


def _draws(study: Study, card: Card, space: SearchSpace, designs: dict[str, list[Config]]) -> Iterator[Draw]:
    ranked = []
    for design, configs in designs.items():
        order = spread(space, tuple(configs))
        ranked += [(rank / len(order), design, configs[row]) for rank, row in enumerate(order)]
    ranked.sort(key=lambda item: item[0])  # the sort is stable: the grid comes first on ties
    repeated = _repeated(study, card, designs.get(GRID, []))
    first, *others = [(fold, seed) for fold in study.folds for seed in study.seeds]
    for _, design, config in ranked:
        yield Draw(design, config, *first)
        if config in repeated:
            yield from (Draw(design, config, fold, seed) for fold, seed in study.repeats(card))
    for fold, seed in others:
        yield from (Draw(design, config, fold, seed) for _, design, config in ranked)


def _repeated(study: Study, card: Card, grid: Sequence[Config]) -> set[Config]:
    """The share of `grid`, all of one backbone, that is repeated: one drawn from each of equal runs of its order."""
    if not study.repeats(card) or not grid:
        return set()
    rng = np.random.default_rng(int(content_id([card.name, grid[0]["backbone"], "repeats"]), 16))
    count = int(np.ceil(study.repeated_share * len(grid) - 1e-9))
    return {grid[int(rng.choice(run))] for run in np.array_split(np.arange(len(grid)), count)}


def _configs(study: Study, card: Card) -> Iterator[tuple[str, Config]]:
    space = study.space_for(card)
    designs = study.document["designs"]
    seen: set[Config] = set()
    if GRID in designs:
        for config in space.grid():
            seen.add(config)
            yield GRID, config
    if SOBOL in designs:
        from scipy.stats import qmc

        seed = int(content_id([card.name, "sobol"]), 16) % 2**32
        points = qmc.Sobol(len(space.hyperparameters), scramble=True, rng=np.random.default_rng(seed))
        count = int(designs[SOBOL])
        for point in points.random_base2((count - 1).bit_length())[:count]:
            config = space.from_unit(point)
            if config not in seen:
                seen.add(config)
                yield SOBOL, config


@lru_cache(maxsize=256)  # the grid of a backbone is the same on every dataset
def spread(space: SearchSpace, configs: tuple[Config, ...]) -> tuple[int, ...]:
    """An order of `configs`, as indices, of which every beginning is spread over the space.

    Greedy maximin (Gonzalez 1985) under Gower's distance: the first is the nearest to the default, every next one the
    farthest from its nearest predecessor, the earlier one on ties.
    """
    distances = Distances(space, configs)

    def rounded(config: Config) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.round(distances(config), 9)  # ties must not depend on how a processor adds

    order = [int(rounded(space.default()).argmin())]
    nearest = rounded(configs[order[0]])
    nearest[order[0]] = -1.0
    for _ in range(len(configs) - 1):
        order.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, rounded(configs[order[-1]]))
        nearest[order[-1]] = -1.0
    return tuple(order)
