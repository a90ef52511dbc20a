"""The families of models that a surrogate can be made of, to be compared on configs that they have not seen.

All read the same inputs. The trees predict the coefficients of the curves; the network is the surrogate itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metaquery.surrogates.encoding import Encoder
from metaquery.surrogates.network import Settings
from metaquery.surrogates.targets import Scale
from metaquery.surrogates.training import fit
from metaquery.surrogates.trials import Floats, Trials

Family = Callable[[Trials, Trials, int], Floats]  # (training, held out, seed) to curves (n, 4, epochs) as in Trials


def network(known: Trials, asked: Trials, seed: int) -> Floats:
    """An ensemble of networks: what `metaquery.surrogates.train` makes."""
    return _network(known, asked, seed, Settings())


def one_network(known: Trials, asked: Trials, seed: int) -> Floats:
    """A single one of its networks."""
    return _network(known, asked, seed, Settings(members=1))


def network_per_dataset(known: Trials, asked: Trials, seed: int) -> Floats:
    """An ensemble for each dataset, which learns from no other."""
    curves = np.full_like(asked.curves, np.nan)
    names = np.array([task.dataset for task in known.tasks])
    for name in sorted(set(names)):
        rows = np.flatnonzero(names[asked.task] == name)
        if len(rows):
            own = known.take(np.flatnonzero(names[known.task] == name))
            curves[rows] = _network(own, asked.take(rows), seed, Settings())
    return curves


def boosted_trees(known: Trials, asked: Trials, seed: int) -> Floats:
    """Histogram gradient boosting, one model for each coefficient."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    def coefficients(x: Floats, y: Floats, new: Floats) -> Floats:
        found = []
        for column in y.T:
            model = HistGradientBoostingRegressor(
                max_iter=300,
                learning_rate=0.06,
                max_leaf_nodes=15,
                min_samples_leaf=8,
                l2_regularization=1.0,
                max_features=0.5,
                early_stopping=False,
                random_state=seed,
            )
            found.append(model.fit(x, column).predict(new))
        return np.stack(found, axis=1)

    return _coefficients(known, asked, coefficients)


def random_forest(known: Trials, asked: Trials, seed: int) -> Floats:
    """A forest of 100 trees that predict all coefficients."""
    from sklearn.ensemble import RandomForestRegressor

    def coefficients(x: Floats, y: Floats, new: Floats) -> Floats:
        model = RandomForestRegressor(100, min_samples_leaf=2, max_features=0.4, random_state=seed)
        found: Floats = model.fit(x, y).predict(new)
        return found

    return _coefficients(known, asked, coefficients)


FAMILIES: dict[str, Family] = {
    family.__name__: family for family in (network, one_network, network_per_dataset, boosted_trees, random_forest)
}


def _network(known: Trials, asked: Trials, seed: int, settings: Settings) -> Floats:
    surrogate = fit(known, settings, seed)
    curves = np.empty_like(asked.curves)
    for task in np.unique(asked.task):
        rows = np.flatnonzero(asked.task == task)
        curves[rows] = surrogate.many([asked.configs[row] for row in rows], int(task)).curves
    curves[:, 2:] = np.log(np.maximum(curves[:, 2:], np.finfo(np.float32).tiny))
    return curves


def _coefficients(known: Trials, asked: Trials, predict: Callable[[Floats, Floats, Floats], Floats]) -> Floats:
    scale, encoder = Scale.of(known), Encoder(known.space, known.tasks)
    x, new = (encoder.inputs(trials.configs, trials.task) for trials in (known, asked))
    found = predict(x, scale.project(scale.standardise(known)), new)
    z = scale.mean + np.tensordot(found, scale.basis, axes=1)
    curves: Floats = scale.offset[asked.task] + scale.scale[asked.task] * z
    return curves
