"""Configs and tasks as rows of a table of knots: what the first layer of the network reads.

Every hyperparameter is a piecewise linear function of its value between a few knots, one for each choice, and being
inactive is a knot of its own. So a config is a weighted sum of at most two rows per hyperparameter, and no value has to
be made up for one that it does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidConfig
from metaquery.space import Config, Hyperparameter, SearchSpace, Value, columns_of
from metaquery.surrogates.trials import Task

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_KNOTS = 9  # of a number
_METAFEATURE_WEIGHT = 0.3  # beside the identity of a dataset, in units of its one-hot column


class Encoder:
    """Finds the knots of configs of `space`.

    The table `features` has the shape (knots, columns); its rows from `first_task` on are those of the tasks.
    """

    def __init__(self, space: SearchSpace, tasks: Sequence[Task]) -> None:
        self._axes: list[_Axis] = []
        start = 0
        blocks = []
        for hp in space.hyperparameters:
            axis = _Axis(hp, start)
            self._axes.append(axis)
            blocks.append(axis.features())
            start += axis.knots
        self.first_task = start
        blocks.append(_task_features(tasks))
        self.features = _block_diagonal(blocks)  # (knots, columns)
        self._blank = {axis.name: np.nan if axis.codes is None else None for axis in self._axes}
        self._own_numbers = [axis for axis in self._axes if axis.codes is None]
        self._numbers = _Numbers(self._axes)
        self._inactive = np.array([[axis.inactive] for axis in self._axes])
        self._children = [(at, *self._parent(axis)) for at, axis in enumerate(self._axes) if axis.parent is not None]

    def _parent(self, child: _Axis) -> tuple[int, NDArray[np.bool_] | None]:
        """The place of the parent of `child`, and which knots it is active at; None where the parent is a number."""
        at, parent = next((at, axis) for at, axis in enumerate(self._axes) if axis.name == child.parent)
        if parent.codes is None:
            return at, None
        allowed = np.zeros(self.first_task, np.bool_)
        allowed[[parent.start + parent.codes[value] for value in child.parent_values]] = True
        return at, allowed

    def fits(self, config: Config) -> bool:
        """Whether `config` has all active hyperparameters and no others, each with a legal value: what
        `SearchSpace.config` checks, in a tenth of its time."""
        get, known = dict(config.items()).get, 0
        for axis in self._axes:
            value = get(axis.name)
            if axis.parent is not None and get(axis.parent) not in axis.parent_values:
                if value is not None:
                    return False
            elif not axis.allows(value):
                return False
            else:
                known += 1
        return known == len(config)

    def knots_of(self, name: str, choices: Iterable[Value]) -> list[int]:
        """The knots of `choices` of hyperparameter `name`; none where there is no such hyperparameter."""
        own = [(axis.start, axis.codes or {}) for axis in self._axes if axis.name == name]
        return [start + codes[choice] for start, codes in own for choice in choices if choice in codes]

    def one(self, config: Config) -> tuple[list[int], list[float]]:
        """The rows of one config, at most 2 h, and their weights; KeyError for a choice that is not there."""
        get = dict(config.items()).get
        rows = [axis.start + axis.codes[get(axis.name)] for axis in self._axes if axis.codes is not None]
        weights = [1.0] * len(rows)
        for axis in self._own_numbers:
            row, weight = axis.knot(get(axis.name))
            rows.append(row)
            weights.append(1.0 - weight)
            if weight:
                rows.append(row + 1)
                weights.append(weight)
        return rows, weights

    def many(self, configs: Sequence[Config]) -> NDArray[np.float32]:
        """The weights of the rows before `first_task` in each of `configs`, (n, first_task): `one` and `fits` for many.

        Raises InvalidConfig where one of them does not fit, without saying which: `SearchSpace.config` says that.
        """
        n = len(configs)
        columns = columns_of(configs, self._blank)
        rows = np.empty((len(self._axes), n), np.intp)
        try:
            for axis, column, row in zip(self._axes, columns, rows, strict=True):
                if axis.codes is not None:
                    np.add(_looked_up(axis.codes, column), axis.start, out=row)
            shares = self._numbers.find(columns, rows)
        except (KeyError, TypeError) as error:
            raise _unfit() from error
        active = rows != self._inactive
        for at, parent, allowed in self._children:
            if allowed is None:  # the parent is a number
                allows = np.array([value in self._axes[at].parent_values for value in columns[parent]])
            else:
                allows = allowed[rows[parent]]
            if (allows != active[at]).any():
                raise _unfit()
        weights = np.zeros((n, self.first_task), np.float32)
        flat = weights.reshape(-1)
        rows += np.arange(n) * self.first_task
        flat[rows] = 1.0
        between = rows[self._numbers.places]
        flat[between] -= shares
        flat[between + 1] = shares
        return weights

    def inputs(self, configs: Sequence[Config], task: NDArray[np.int64]) -> Floats:
        """The sums of the rows of configs and their tasks, (n, columns): what the network is trained on."""
        total: Floats = self.many(configs) @ self.features[: self.first_task] + self.features[self.first_task + task]
        return total


class _Axis:
    """One hyperparameter: the knots from `start` on, the first of them for being inactive where it can be.

    `codes` are the knots of choices, and of None where inactive, counted from `start`; None for a number.
    """

    def __init__(self, hp: Hyperparameter, start: int) -> None:
        self.name = hp.name
        self.hp = hp
        self.start = start
        self.parent = None if hp.condition is None else hp.condition.parent
        self.parent_values = frozenset(() if hp.condition is None else hp.condition.values)
        self.inactive = -1 if hp.condition is None else start
        self.first = start + int(hp.condition is not None)  # of the active ones
        self._type = int if hp.kind == "integer" else float
        self.codes: dict[Value | None, int] | None = None
        if hp.kind not in ("integer", "float"):
            states = hp.choices if hp.condition is None else (None, *hp.choices)
            self.codes = {state: code for code, state in enumerate(states)}
        self.knots = self.first - start + _KNOTS if self.codes is None else len(self.codes)

    def allows(self, value: Any) -> bool:
        """Whether `value`, not None, is legal."""
        if self.codes is not None:
            return value is not None and value in self.codes
        return type(value) is self._type and self.hp.low <= value <= self.hp.high

    def knot(self, value: Value | None) -> tuple[int, float]:
        """The knot at or below `value` of a number, and the weight of the one after it."""
        if value is None:
            return self.inactive, 0.0
        place = self.hp.to_unit(value) * (_KNOTS - 1)
        low = min(int(place), _KNOTS - 2)
        return self.first + low, place - low

    def features(self) -> Floats:
        """Rows of this axis's knots: a one-hot column each and, of what is ordered, the place in [-1, 1]."""
        hot = np.eye(self.knots)
        if self.hp.kind == "categorical":
            return hot
        place = np.zeros((self.knots, 1))
        n = self.knots - int(self.inactive >= 0)
        place[-n:, 0] = np.linspace(-1.0, 1.0, n) if n > 1 else 0.0
        return np.hstack([hot, place])


class _Numbers:
    """The axes that are numbers, all at once."""

    def __init__(self, axes: Sequence[_Axis]) -> None:
        self.places = [place for place, axis in enumerate(axes) if axis.codes is None]
        own = [axes[place] for place in self.places]
        ends = [(axis.hp.low, axis.hp.high) for axis in own]
        units = np.array([[axis.hp.to_unit(end) for end in pair] for axis, pair in zip(own, ends, strict=True)])
        self._low, self._high = np.array(ends, np.float64).reshape(-1, 2).T[..., None]
        self._log = [row for row, axis in enumerate(own) if axis.hp.log]
        self._whole = [row for row, axis in enumerate(own) if axis.hp.kind == "integer"]
        self._inactive = np.array([axis.inactive for axis in own])[:, None]
        self._first = np.array([axis.first for axis in own])[:, None]
        x = np.array(ends, np.float64).reshape(-1, 2)
        x[self._log] = np.log(x[self._log])
        units = units.reshape(-1, 2) * (_KNOTS - 1)
        self._slope = ((units[:, 1] - units[:, 0]) / (x[:, 1] - x[:, 0]))[:, None]
        self._offset = units[:, :1] - x[:, :1] * self._slope

    def find(self, columns: Sequence[Sequence[Any]], rows: Rows) -> Floats:
        """Write the knots at or below the values in `columns`, NaN where inactive, to `rows` (axes, n), and return the
        weights of the knots after them, (numbers, n); TypeError for what is no legal number."""
        own = [columns[place] for place in self.places]
        if not set(map(type, chain.from_iterable(own))) <= {int, float}:
            raise TypeError
        values = np.fromiter(chain.from_iterable(own), np.float64).reshape(len(own), rows.shape[1])
        absent = np.isnan(values)
        legal = (values >= self._low) & (values <= self._high)
        whole = values[self._whole]
        if (
            not (legal | (absent & (self._inactive >= 0))).all()
            or (whole != np.rint(whole))[~absent[self._whole]].any()
        ):
            raise TypeError
        values[self._log] = np.log(values[self._log])
        shares = np.where(absent, 0.0, values * self._slope + self._offset)
        knots = np.clip(shares.astype(np.intp), 0, _KNOTS - 2)
        rows[self.places] = np.where(absent, self._inactive, self._first + knots)
        shares -= knots
        return shares


def _looked_up(codes: Mapping[Any, int], values: Sequence[Any]) -> NDArray[Any]:
    """`codes` of `values`, (n,): the quickest way to it that was found."""
    found = itemgetter(*values)(codes) if len(values) > 1 else [codes[value] for value in values]
    return np.frombuffer(bytes(found), np.uint8) if len(codes) <= 256 else np.array(found)


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
