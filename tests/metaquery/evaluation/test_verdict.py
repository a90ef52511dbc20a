"""What the verdict says, from results made up for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from metaquery.evaluation.outcome import Evaluation
from metaquery.evaluation.verdict import Verdict, verdict


def judge(
    regrets: dict[str, Sequence[float]],
    *,
    seeds: int = 1,
    validation: dict[str, float] | None = None,
    stop: str = "out_of_seconds",
) -> Verdict:
    """The verdict where each optimizer has its one incumbent after 1 of 100 s, at these test regrets by dataset."""
    names = list(regrets)
    n = len(regrets[names[0]])
    rows: list[dict[str, Any]] = []
    studies = []
    for name in names:
        for d in range(n):
            for seed in range(seeds):
                where = {"optimizer": name, "dataset": f"d{d}", "seed": seed}
                value = {"validation_regret": (validation or {}).get(name, 0.1), "test_regret": regrets[name][d]}
                effort = {"clock_seconds": 1.0, "epochs": 1, "evaluations": 1}
                rows.append(
                    {
                        **where,
                        **effort,
                        **value,
                        "validation": 0.9,
                        "test": 0.9,
                        "config_id": "x",
                        "config": {},
                        "epoch": 1,
                        "cost_seconds": 1.0,
                    }
                )
                studies.append({**where, **effort, "stop": stop, "statuses": {"completed": 1}})
    ends = {
        "validation": {"best": 1.0, "worst": 0.0, "default": None},
        "test": {"best": 1.0, "worst": 0.0, "default": None},
    }
    provenance = {
        "optimizers": [{"label": name} for name in names],
        "datasets": [{"dataset": f"d{d}", **ends} for d in range(n)],
        "seeds": list(range(seeds)),
        "budget": {"seconds": 100.0, "epochs": None, "trials": None},
        "benchmark": {"metric": "auc"},
        "splits": ["validation", "test"],
        "judged": "test",
        "studies": studies,
    }
    return verdict(Evaluation.of(rows, provenance).analysis)


def test_a_clear_lead_over_enough_datasets() -> None:
    found = judge({"slow": [0.3, 0.4, 0.35, 0.3, 0.5, 0.4], "fast": [0.1, 0.15, 0.1, 0.1, 0.2, 0.1]})
    assert found.headline == "fast leads"
    assert found.sentences[0].startswith(
        "At the full budget fast has a normalised test regret of 0.125, 0.25 less than slow"
    )
    assert (
        found.sentences[1]
        == "The interval excludes zero over 6 datasets: the difference is distinguishable from noise."
    )


def test_a_lead_that_could_be_noise() -> None:
    found = judge({"a": [0.1, 0.5, 0.1, 0.5, 0.1, 0.5], "b": [0.2, 0.3, 0.2, 0.3, 0.2, 0.62]})
    assert found.headline == "a has the lowest test regret, but the lead is not distinguishable from noise"
    assert "The interval includes zero" in found.sentences[1]


def test_a_few_datasets_cannot_show_a_difference() -> None:
    found = judge({"a": [0.1, 0.1, 0.1], "b": [0.2, 0.3, 0.2]})
    assert "not distinguishable from noise" in found.headline
    assert found.sentences[1] == (
        "The interval excludes zero, but it rests on 3 datasets: fewer than 6 cannot tell a difference from chance at "
        "the 5 % level."
    )


def test_one_study_each_has_no_interval() -> None:
    found = judge({"a": [0.1], "b": [0.2]})
    assert found.sentences[0] == "At the full budget a has a normalised test regret of 0.100, 0.1 less than b."
    assert (
        found.sentences[1]
        == "With a single dataset and seed there is no interval, so nothing can be said about chance."
    )


def test_a_draw_and_a_single_optimizer() -> None:
    assert judge({"a": [0.1, 0.2], "b": [0.2, 0.1]}).headline == "a and b end level, at a test regret of 0.150"
    alone = judge({"a": [0.1, 0.3]})
    assert alone.headline == "a alone: a test regret of 0.200 at the full budget"
    assert alone.sentences[0] == "There is nothing to compare it with."


def test_the_rest_is_sorted_into_beaten_and_level() -> None:
    best, near, far = [0.1] * 6, [0.1, 0.1, 0.1, 0.1, 0.1, 0.2], [0.5] * 6
    found = judge({"far": far, "best": best, "near": near, "level": [0.1, 0.2, 0.1, 0.1, 0.1, 0.3]})
    assert "Against the rest it is clearly ahead of far and not distinguishable from level." in found.sentences


def test_validation_and_test_may_disagree() -> None:
    found = judge({"a": [0.1, 0.1], "b": [0.2, 0.2]}, validation={"a": 0.3, "b": 0.05})
    assert any(
        "On validation, which the optimizers saw, b is ahead (0.050 against 0.300)." in s for s in found.sentences
    )


@pytest.mark.parametrize(("stop", "said"), [("exhausted", True), ("stalled", True), ("out_of_seconds", False)])
def test_studies_that_ended_early_are_pointed_out(stop: str, said: bool) -> None:
    found = judge({"a": [0.1, 0.1], "b": [0.2, 0.2]}, stop=stop)
    assert any("4 of 4 studies ended before the budget did" in s for s in found.sentences) is said


def test_the_corrected_test_is_reported_beside_the_interval() -> None:
    test = "By Wilcoxon's signed-rank test over datasets, corrected for all pairs (Holm), best differs from "
    best, worse = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [0.2, 0.21, 0.22, 0.23, 0.24, 0.25]
    assert f"{test}worse at the 5 % level." in judge({"best": best, "worse": worse}).sentences  # p = 2 / 2^6
    third = [0.3, 0.31, 0.33, 0.36, 0.4, 0.45]
    told = judge({"best": best, "worse": worse, "third": third}).sentences  # p = 3 * 2 / 2^6, beside a clear interval
    assert f"{test}none of the others at the 5 % level." in told
    assert "clearly ahead of third" in " ".join(told)
    assert not any("Wilcoxon" in sentence for sentence in judge({"a": [0.1], "b": [0.2]}).sentences)
