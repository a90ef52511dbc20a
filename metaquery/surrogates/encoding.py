"""Configs and tasks as rows of a table of knots: what the first layer of the network reads.

Every hyperparameter is a piecewise linear function of its value between a few knots, one for each choice, and being
inactive is a knot of its own, which all others are counted from. So a config is a weighted sum of at most two rows for
each hyperparameter that it has, and no value has to be made up for one that it does not have.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import countOf, itemgetter
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from metaquery.errors import InvalidConfig
from metaquery.space import Condition, Config, Hyperparameter, SearchSpace, Value, values_of
from metaquery.surrogates.trials import Task

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_KNOTS = 9  # of a number
_METAFEATURE_WEIGHT = 0.3  # beside the identity of a dataset, in units of its one-hot column
_NOT_FITTING = (KeyError, TypeError, struct.error)  # what reading a config of another space ends with


class Encoder:
    """Finds the knots of configs of `space`.

    The table `features` has the shape (knots, columns). Its rows from `first_task` on are those of the tasks, for a
    config of which every conditional hyperparameter is inactive; those before add what a hyperparameter changes.
    """

    def __init__(self, space: SearchSpace, tasks: Sequence[Task]) -> None:
        self._axes: dict[str, _Axis] = {}
        self._conditional: list[int] = []  # the columns that say that a hyperparameter is inactive
        start = column = 0
        blocks, inactive = [], []
        for hp in space.hyperparameters:
            axis = self._axes[hp.name] = _Axis(hp, len(self._axes), start)
            nothing, knots = axis.features()
            if hp.condition is not None:
                self._conditional.append(column)
            blocks.append(knots)
            inactive.append(nothing)
            start, column = start + len(knots), column + len(nothing)
        self.first_task = start
        self.features = _block_diagonal([*blocks, _task_features(tasks)])
        self.features[start:, :column] = np.concatenate(inactive)
        self._starts = np.array([axis.start for axis in self._axes.values()], np.intp)
        self._numbers = _Numbers(list(self._axes.values()))
        alike: dict[Condition | None, list[_Axis]] = {}
        for axis in self._axes.values():
            alike.setdefault(axis.hp.condition, []).append(axis)
        self._groups = [_Group(own, self._axes) for own in alike.values()]

    def knots_of(self, name: str, choices: Iterable[Value]) -> list[int]:
        """The knots of `choices` of hyperparameter `name`; none where there is no such hyperparameter."""
        if name not in self._axes:
            return []
        start, codes = self._axes[name].start, self._axes[name].codes or {}
        return [start + codes[choice] for choice in choices if choice in codes]

    def one(self, config: Config) -> tuple[list[int], list[float]]:
        """The rows of one config, at most two for each hyperparameter, and their weights.

        Raises InvalidConfig where `config` does not have all active hyperparameters and no others, each with a legal
        value of its own type, without saying which: `SearchSpace.config` says that.
        """
        (values,) = values_of((config,))
        rows: list[int] = []
        numbers: list[tuple[Any, ...]] = []
        read = 0
        try:
            for group in self._groups:
                if group.parent is None or values.get(group.parent.name) in group.parent_values:
                    rows += [knots[values[name]] for name, knots in group.choices]
                    numbers += group.numbers
                    read += group.size
            weights = [1.0] * len(rows)
            for name, kind, low, high, log, slope, offset, start in numbers:
                value: Any = values[name]
                if type(value) is not kind or not low <= value <= high:
                    raise TypeError
                place = (math.log(value) if log else value) * slope + offset
                knot = min(int(place), _KNOTS - 2)
                share = place - knot
                rows += start + knot, start + knot + 1
                weights += 1.0 - share, share
        except _NOT_FITTING as error:
            raise _unfit() from error
        if read != len(values):
            raise _unfit()
        return rows, weights

    def many(self, configs: Sequence[Config], room: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """The weights of the rows before `first_task` in each of `configs`, (n, first_task), written to the beginning
        of `room` where there is one: `one` for many."""
        n = len(configs)
        values = values_of(configs)
        flat = np.empty(n * self.first_task, np.float32) if room is None else room[: n * self.first_task]
        flat.fill(0.0)
        begins = np.arange(n) * self.first_task
        choices, numbers = _Pile(np.uint8), _Pile(np.float64)
        found: dict[str, tuple[Rows, NDArray[Any]]] = {}
        read = 0
        try:
            for group in self._groups:
                rows = np.arange(n) if group.parent is None else group.active(*found[group.parent.name])
                read += len(rows) * group.size
                own_begins = begins[rows]
                for axis, column in zip(group.axes, group.columns(_picked(values, rows)), strict=True):
                    own = axis.read(column)
                    found[axis.name] = rows, own
                    (numbers if axis.codes is None else choices).add(axis.place, own_begins, own)
            place, knots, shares = numbers.all(self._starts)
            knots += self._numbers.find(place, shares)
        except _NOT_FITTING as error:
            raise _unfit() from error
        if read != sum(map(len, values)):
            raise _unfit()
        flat[knots] = 1.0 - shares
        flat[knots + 1] = shares
        _, knots, codes = choices.all(self._starts)
        flat[knots + codes] = 1.0
        return flat.reshape(n, -1)

    def inputs(self, configs: Sequence[Config], task: NDArray[np.int64]) -> Floats:
        """The sums of the rows of configs and their tasks, (n, columns): what the network is trained on."""
        total: Floats = self.many(configs) @ self.features[: self.first_task] + self.features[self.first_task + task]
        total[:, self._conditional] = np.rint(total[:, self._conditional])  # the weights of a number add up to about 1
        return total


class _Axis:
    """One hyperparameter, at `place` among all: the knots from `start` on, but for that of being inactive, which adds
    nothing.

    `codes` are the knots of choices, counted from `start`; None for a number, whose knot is linear in its value, or in
    the logarithm of it, with `slope` and `offset`.
    """

    def __init__(self, hp: Hyperparameter, place: int, start: int) -> None:
        self.name = hp.name
        self.hp = hp
        self.place = place
        self.start = start
        self.type = int if hp.kind == "integer" else float
        self.slope = self.offset = 0.0
        self.codes: dict[Value, int] | None = None
        if hp.kind in ("categorical", "ordinal"):
            self.codes = {choice: code for code, choice in enumerate(hp.choices)}
            return
        low, high = (math.log(end) if hp.log else end for end in (hp.low, hp.high))
        first, last = (hp.to_unit(end) * (_KNOTS - 1) for end in (hp.low, hp.high))
        self.slope = (last - first) / (high - low)
        self.offset = first - low * self.slope

    def read(self, column: Sequence[Any]) -> NDArray[Any]:
        """The numbers in `column`, or the codes of its choices, (n,), by the quickest ways to them that were found;
        KeyError for what is no choice, TypeError for a number of another type."""
        if self.codes is None:
            if countOf(map(type, column), self.type) != len(column):
                raise TypeError
            return np.frombuffer(struct.pack(f"{len(column)}d", *column))
        codes = itemgetter(*column)(self.codes) if len(column) > 1 else [self.codes[value] for value in column]
        return np.frombuffer(bytes(codes), np.uint8) if len(self.codes) <= 256 else np.array(codes, np.intp)

    def features(self) -> tuple[Floats, Floats]:
        """What being inactive adds to the inputs of the network, (columns,), and what each knot adds beyond that,
        (knots, columns): a one-hot column each, that of being inactive first where it can be, and of what is ordered
        the place in [-1, 1]."""
        conditional = int(self.hp.condition is not None)
        n = _KNOTS if self.codes is None else len(self.codes)
        states = np.eye(n + conditional)
        if self.hp.kind != "categorical":
            place = np.zeros((len(states), 1))
            place[-n:, 0] = np.linspace(-1.0, 1.0, n) if n > 1 else 0.0
            states = np.hstack([states, place])
        nothing = conditional * states[0]
        return nothing, states[conditional:] - nothing


class _Group:
    """The hyperparameters that one condition makes active, which are read together: `choices` with the knot of each,
    and what finds those of `numbers`."""

    def __init__(self, axes: Sequence[_Axis], known: Mapping[str, _Axis]) -> None:
        condition = axes[0].hp.condition
        self.parent = None if condition is None else known[condition.parent]
        self.parent_values = frozenset(() if condition is None else condition.values)
        self.axes = axes
        self.choices = [
            (axis.name, {choice: axis.start + code for choice, code in axis.codes.items()})
            for axis in axes
            if axis.codes is not None
        ]
        self.numbers = [
            (axis.name, axis.type, axis.hp.low, axis.hp.high, axis.hp.log, axis.slope, axis.offset, axis.start)
            for axis in axes
            if axis.codes is None
        ]
        self.size = len(axes)
        self._of = itemgetter(*[axis.name for axis in axes])
        codes = None if self.parent is None else self.parent.codes
        self._allowed = None if codes is None else np.array([choice in self.parent_values for choice in codes])

    def active(self, rows: Rows, parents: NDArray[Any]) -> Rows:
        """Those of `rows` whose parent, its codes or numbers in `parents`, makes the group active."""
        allows = np.isin(parents, list(self.parent_values)) if self._allowed is None else self._allowed[parents]
        found: Rows = rows[allows]
        return found

    def columns(self, values: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        """What `values` have of each hyperparameter; KeyError where one is missing."""
        if self.size == 1:
            return [list(map(self._of, values))]
        flat = list(chain.from_iterable(map(self._of, values)))
        return [flat[place :: self.size] for place in range(self.size)]


class _Numbers:
    """What finds the knots of numbers of many axes at once."""

    def __init__(self, axes: Sequence[_Axis]) -> None:
        parts = [(axis.hp.low, axis.hp.high, axis.slope, axis.offset) for axis in axes]
        self._low, self._high, self._slope, self._offset = np.array(parts, np.float64).T
        self._log = np.array([axis.hp.log for axis in axes], np.bool_)

    def find(self, place: Rows, values: Floats) -> Rows:
        """The knots at or below `values` of the axes at `place`, counted from the first of each, both (n,); `values`
        become the weights of the knots after them. TypeError for what is no legal number."""
        if not ((values >= self._low[place]) & (values <= self._high[place])).all():
            raise TypeError
        np.log(values, out=values, where=self._log[place])
        values *= self._slope[place]
        values += self._offset[place]
        knots = np.minimum(values.astype(np.intp), _KNOTS - 2)
        values -= knots
        return knots


class _Pile:
    """What was read of several axes, to be worked on at once."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._places: list[int] = []
        self._begins = [np.empty(0, np.intp)]
        self._values: list[NDArray[Any]] = [np.empty(0, dtype)]

    def add(self, place: int, begins: Rows, values: NDArray[Any]) -> None:
        """Put codes or numbers of the axis at `place` there, with where the weights of their configs begin, (n,)."""
        self._places.append(place)
        self._begins.append(begins)
        self._values.append(values)

    def all(self, starts: Rows) -> tuple[Rows, Rows, NDArray[Any]]:
        """The places of axes, the first knots of these, which `starts` counts from where a config begins, and what was
        read, (n,) each."""
        places = np.repeat(np.array(self._places, np.intp), [len(begins) for begins in self._begins[1:]])
        return places, np.concatenate(self._begins) + starts[places], np.concatenate(self._values)


def _picked(values: list[Any], rows: Rows) -> Sequence[Any]:
    """Those of `values` at `rows`, which rise."""
    if len(rows) == len(values):
        return values
    return itemgetter(*rows.tolist())(values) if len(rows) > 1 else [values[row] for row in rows]


def _unfit() -> InvalidConfig:
    return InvalidConfig("a config is not one of the search space: make it with its method  config")


def _task_features(tasks: Sequence[Task]) -> Floats:
    """A one-hot column for each dataset, one for each fold where a dataset has several, and the meta-features,
    standardised after a signed logarithm, 0 where they are missing."""
    datasets = sorted({task.dataset for task in tasks})
    identity = np.array([[float(task.dataset == name) for name in datasets] for task in tasks])
    several = len(datasets) < len(tasks)
    fold = 0.5 * np.eye(len(tasks)) if several else np.empty((len(tasks), 0))
    names = sorted({name for task in tasks for name in task.metafeatures})
    raw = np.array([[task.metafeatures.get(name, np.nan) for name in names] for task in tasks]).reshape(len(tasks), -1)
    logs = np.sign(raw) * np.log1p(np.abs(raw))
    centred = logs - np.nanmean(logs, axis=0) if names else logs
    deviation = np.nanstd(logs, axis=0) if names else np.empty(0)
    scaled = np.nan_to_num(centred) / np.where(deviation > 1e-9, deviation, 1.0)
    return np.hstack([identity, fold, _METAFEATURE_WEIGHT * np.clip(scaled, -3.0, 3.0)])


def _block_diagonal(blocks: Sequence[Floats]) -> Floats:
    shape = np.sum([block.shape for block in blocks], axis=0)
    table = np.zeros(shape)
    row = column = 0
    for block in blocks:
        table[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return table
