"""What an evaluation's results say about its optimizers, from results made up for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import metaquery as mq
from metaquery.errors import InvalidInput
from metaquery.evaluation.analysis import Analysis
from metaquery.evaluation.outcome import Evaluation
from metaquery.evaluation.protocols import Protocol
from metaquery.evaluation.reference import references
from metaquery.evaluation.verdict import verdict
from metaquery.metrics import metric
from metaquery.testing import TOY_SPACE, SyntheticBenchmark
from metaquery.types import Curve, Status

SPLITS = ("validation", "test")


def made_up(regret: np.ndarray, *, judged: str = "test", name: str = "auc", trained: int = 4) -> Analysis:
    """Optimizers a, b, ... on datasets d0, d1, ...: an incumbent with a regret of 0.8 after 20 of 100 s, and after 50 s
    one with `regret`, shape (optimizers, datasets, seeds), whose metric is 1 - regret / 2."""
    labels = "abcdefgh"[: len(regret)]
    rows: list[dict[str, Any]] = []
    studies = []
    from_loss = metric(name).from_loss
    for o, d, s in np.ndindex(*regret.shape):
        where = {"optimizer": labels[o], "dataset": f"d{d}", "seed": s}
        for order, (clock, value) in enumerate(((20.0, 0.8), (50.0, float(regret[o, d, s])))):
            losses = {key: from_loss(value / 2) for key in SPLITS} | {f"{key}_regret": value for key in SPLITS}
            effort = {"clock_seconds": clock, "epochs": order, "evaluations": order + 1, "cost_seconds": 5.0 * (o + 1)}
            rows.append({**where, **effort, **losses, "config_id": "x", "config": {}, "epoch": 1})
        studies.append({**where, "stop": "out_of_seconds", "error": None, "evaluations": 2, "statuses": {}})
    ends = {key: {"best": from_loss(0.0), "worst": from_loss(0.5), "default": from_loss(0.2)} for key in SPLITS}
    datasets = [f"d{d}" for d in range(regret.shape[1])]
    provenance = {
        "optimizers": [{"label": label} for label in labels],
        "datasets": [{"dataset": dataset, **ends, "longest_seconds": 20.0} for dataset in datasets],
        "protocol": {"folds": [{"group": dataset, "train": ["x"] * trained} for dataset in datasets]},
        "seeds": list(range(regret.shape[2])),
        "budget": {"seconds": 100.0, "epochs": None, "trials": None},
        "benchmark": {"metric": name},
        "splits": list(SPLITS),
        "judged": judged,
        "studies": studies,
    }
    return Evaluation.of(rows, provenance).analysis


REGRET = np.array([[[0.0, 0.2], [0.1, 0.1], [0.2, 0.2]], [[0.4, 0.4], [0.3, 0.5], [0.1, 0.1]]])


def test_the_area_is_that_under_the_steps_from_the_start() -> None:
    # 20 s at 1, 30 s at 0.8, 50 s at the final regret
    np.testing.assert_allclose(made_up(REGRET).area("test"), 0.2 + 0.24 + 0.5 * REGRET)


@pytest.mark.parametrize("name", ["auc", "loss"])
def test_the_gap_to_the_default_is_positive_where_it_is_beaten(name: str) -> None:
    np.testing.assert_allclose(made_up(REGRET, name=name).gap_to_default("test"), 0.2 - REGRET / 2, atol=1e-12)


def test_every_statistic_has_its_shape_and_its_value() -> None:
    found = made_up(REGRET).statistics
    np.testing.assert_array_equal(found.regret, REGRET)
    middle = [[0.5 * 0.1, 0.1, 0.2, 0.5 * 0.2], [0.5 * 0.1, 0.3, 0.4, 0.5 * 0.4]]
    assert found.iqm.mean == pytest.approx([sum(values) / 3 for values in middle])
    assert (found.iqm.low <= found.iqm.mean).all()
    assert (found.iqm.mean <= found.iqm.high).all()
    assert found.improvement.mean[0, 1] == pytest.approx(2 / 3)
    assert found.improvement.mean[0, 0] == 0.5
    assert found.profiles.shares.mean.shape == found.profiles.shares.low.shape == (2, 101)
    assert found.profiles.shares.mean[0, found.profiles.thresholds.tolist().index(0.1)] == pytest.approx(3 / 6)
    assert found.critical_difference is not None
    np.testing.assert_allclose(found.critical_difference.ranks, [4 / 3, 5 / 3])
    assert found.elo.mean[0] > found.elo.mean[1]
    assert found.elo.mean.mean() == pytest.approx(1000)
    assert found.ecdf("test").shape == (2, 120)
    assert found.ecdf("test")[:, -1].tolist() == sorted(found.ecdf("test")[:, -1], reverse=True)


def test_hypervolume_and_trade_off_weigh_quality_against_the_cost_of_the_config() -> None:
    found = made_up(REGRET).statistics
    np.testing.assert_allclose(found.hypervolume[0], (1 - REGRET[0]) * (1 - 5 / 20))
    np.testing.assert_allclose(found.hypervolume[1], (1 - REGRET[1]) * (1 - 10 / 20))
    assert found.trade_off.cost_seconds == pytest.approx([5, 10])
    assert found.trade_off.metric == pytest.approx(1 - REGRET.mean(axis=(1, 2)) / 2)
    assert found.trade_off.on_front == (0,)


def test_differences_are_corrected_for_shared_training_datasets() -> None:
    found = made_up(REGRET, trained=4).statistics.differences
    gaps = (REGRET[1] - REGRET[0]).mean(axis=1)
    assert found.mean[0, 1] == pytest.approx(gaps.mean())
    assert found.ratio == pytest.approx(1 / 4)  # one dataset tests, four train
    half = 4.302652729911275 * math.sqrt(gaps.var(ddof=1) * (1 / 3 + 1 / 4))  # the t quantile of 2 degrees of freedom
    assert (found.low[0, 1], found.high[0, 1]) == pytest.approx((gaps.mean() - half, gaps.mean() + half))
    assert np.isnan(found.mean[0, 0])
    assert made_up(REGRET, trained=0).statistics.differences.ratio == 0.0


def test_a_single_dataset_optimizer_or_seed_has_what_it_can() -> None:
    one_dataset = made_up(REGRET[:, :1]).statistics
    assert one_dataset.critical_difference is None
    assert np.isnan(one_dataset.elo.low).all()
    assert np.isnan(one_dataset.differences.low).all()
    one_seed = made_up(REGRET[:, :, :1]).statistics
    assert np.isnan(one_seed.iqm.low).all()
    assert one_seed.iqm.mean.shape == (2,)
    alone = made_up(REGRET[:1]).statistics
    assert alone.improvement.mean.shape == (1, 1)
    assert alone.elo.mean == pytest.approx([1000])


def test_the_judged_split_comes_first() -> None:
    assert made_up(REGRET).splits == ("test", "validation")
    assert made_up(REGRET, judged="validation").splits == ("validation", "test")


def test_a_protocol_brings_its_own_terms(corpus: mq.Corpus) -> None:
    rules = Protocol.from_document(
        {
            "name": "own",
            "description": "mine",
            "folds": {"scheme": "single"},
            "defaults": {
                "budget": {"epochs": 40},
                "seeds": 2,
                "metric": "accuracy",
                "charging": "restart",
                "workers": 2,
                "judged": "validation",
                "normaliser": "last_epochs",
                "charge_optimizer": True,
            },
        }
    )
    found = mq.evaluate(corpus, ["random", "asha"], protocol=rules, datasets=["beta"])
    stamp = found.provenance
    assert stamp["budget"] == {"seconds": None, "epochs": 40, "trials": None}
    assert (stamp["seeds"], stamp["charging"], stamp["workers"]) == ([0, 1], "restart", 2)
    assert (stamp["benchmark"]["metric"], stamp["judged"]) == ("accuracy", "validation")
    assert (stamp["optimizer_seconds"], stamp["normaliser"]["name"]) == ("charged as measured", "last_epochs")
    assert "The protocol judges on validation" in " ".join(verdict(found.analysis).sentences)
    other = mq.evaluate(
        corpus,
        ["random"],
        protocol=rules,
        datasets=["beta"],
        budget=mq.Budget(trials=2),
        seeds=1,
        charging="resume",
        metric="auc",
        workers=1,
        charge_optimizer=False,
    ).provenance
    assert other["budget"] == {"seconds": None, "epochs": None, "trials": 2}
    assert (other["seeds"], other["charging"], other["workers"]) == ([0], "resume", 1)
    assert (other["benchmark"]["metric"], other["optimizer_seconds"]) == ("auc", "not charged")


def test_references_are_over_all_epochs_or_the_last_ones(corpus: mq.Corpus) -> None:
    bench = corpus.benchmark("alpha")
    curves = [bench.curve(config) for config in bench.configs or ()]
    for normaliser in ("all_epochs", "last_epochs"):
        found = references([bench], normaliser)["alpha"]
        for split in SPLITS:
            losses = [c.test if split == "test" else c.value for c in curves]
            values = np.concatenate([v if normaliser == "all_epochs" else v[-1:] for v in losses])
            assert (found.best[split], found.worst[split]) == (values.min(), values.max())
    default = bench.curve(bench.space.default())
    assert found.default == {"validation": default.value[-1], "test": default.test[-1]}
    assert (found.default_id, found.distance) == (bench.space.default().config_id, 0.0)
    assert found.longest == max(curve.seconds.sum() for curve in curves)
    assert found.regret("test", np.array([math.nan, found.best["test"]])).tolist() == [1.0, 0.0]


def test_a_table_without_values_cannot_be_a_reference() -> None:
    class Empty(SyntheticBenchmark):
        def _curve(self, config: Any) -> Curve:
            return Curve(np.empty(0), np.empty(0), np.empty(0), Status.OUT_OF_MEMORY, 27)

    with pytest.raises(InvalidInput, match="toy has no validation auc at fold 0 to normalise by"):
        references([Empty(configs=TOY_SPACE.core().grid()[:2])], "all_epochs")
