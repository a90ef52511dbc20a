"""The generalisation matrix, against a loop over tables and against one made up by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

import metaquery as mq
from metaquery.evaluation.reference import Reference, references
from metaquery.evaluation.transfer import transfer
from metaquery.optimizers.history import DatasetHistory
from metaquery.space import Config


def source(name: str, family: str, losses: Mapping[Config, float]) -> DatasetHistory:
    """A dataset whose configs had these validation losses after their only epoch."""
    column = np.array([[value] for value in losses.values()])
    return DatasetHistory(name, family, {}, tuple(losses), column, np.ones_like(column))


def test_it_is_what_a_loop_over_the_tables_finds(evaluation: mq.Evaluation, corpus: mq.Corpus) -> None:
    found = evaluation.provenance["transfer"]
    assert sorted(found["sources"]) == ["alpha", "beta", "gamma"]
    assert found["families"] == {"alpha": "family_one", "beta": "family_two", "gamma": "family_one"}
    benches = {name: corpus.benchmark(name) for name in evaluation.analysis.datasets}
    measured = references(list(benches.values()), "all_epochs")
    for i, one in enumerate(found["sources"]):
        for j, other in enumerate(evaluation.analysis.datasets):
            cell = {key: found[key][i][j] for key in ("shared", "config", "value", "regret")}
            shared = {c.config_id for c in benches[one].configs or ()} & {
                c.config_id for c in benches[other].configs or ()
            }
            assert cell["shared"] == len(shared)
            related = one != other and found["families"][one] == found["families"][other]
            if related or not shared:
                assert cell["config"] is cell["value"] is cell["regret"] is None
                continue
            ends = {
                config.config_id: benches[one].query(config, benches[one].epochs)
                for config in benches[one].configs or ()
                if config.config_id in shared
            }
            best = min((end.value, name) for name, end in ends.items() if end.status in ("completed", "early_stopped"))
            assert ends[cell["config"]].value == best[0]
            config = next(c for c in benches[other].configs or () if c.config_id == cell["config"])
            loss = benches[other].curve(config).test[-1]
            assert cell["value"] == pytest.approx(1 - loss)
            assert cell["regret"] == pytest.approx(float(measured[other].regret("test", np.array([loss]))[0]))
            assert found["configs"][cell["config"]] == dict(config)


def test_families_failures_and_foreign_tables(corpus: mq.Corpus) -> None:
    bench = corpus.benchmark("alpha")
    configs = bench.configs or ()
    finished = [c for c in configs if bench.curve(c).stands(bench.epochs) is not None]
    failed = [c for c in configs if bench.curve(c).stands(bench.epochs) is None]
    foreign = Config({"unheard": "of"})
    reference = Reference({"test": 0.0}, {"test": 1.0}, {}, "", 0.0, 1.0)
    sources = (
        source("alpha", "one", {finished[0]: 0.5, finished[1]: 0.2, finished[2]: math.nan}),
        source("sister", "one", {finished[0]: 0.1}),
        source("prefers what fails", "two", {failed[0]: 0.1, finished[0]: 0.5}),
        source("prefers the unknown", "three", {foreign: 0.1, finished[2]: 0.5}),
        source("all failed", "four", {finished[0]: math.nan}),
    )
    found = transfer(sources, {"alpha": bench}, {"alpha": reference}, "test")
    rows = {name: [found[key][i][0] for key in ("shared", "config")] for i, name in enumerate(found["sources"])}
    assert rows == {
        "alpha": [3, finished[1].config_id],
        "sister": [1, None],
        "prefers what fails": [2, failed[0].config_id],
        "prefers the unknown": [1, finished[2].config_id],
        "all failed": [1, None],
    }
    assert (found["value"][2][0], found["regret"][2][0]) == (None, 1.0)
    assert found["regret"][3][0] == pytest.approx(bench.curve(finished[2]).test[-1])
    assert found["configs"].keys() == {finished[1].config_id, failed[0].config_id, finished[2].config_id}
