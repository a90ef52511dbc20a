"""What the tables of the findings are, computed by hand for a few trials."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import polars as pl
import pytest

SCRIPT = Path(__file__).parents[1] / "studies" / "medcurves_findings.py"
SAME = {"fold": 0, "seed": 0, "design": "grid", "optimizer": "adamw", "batch_size": 32, "augmentation": "none"}


@pytest.fixture(scope="module")
def findings():
    spec = importlib.util.spec_from_file_location("medcurves_findings", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trial(dataset, way, val, test, seconds, **others):
    return {
        **SAME,
        "dataset": dataset,
        "n_dims": 2,
        "way": way,
        "val": val,
        "test": test,
        "seconds": seconds,
        "backbone": "net",
        "lr": 0.001,
        "weight_decay": 0.0,
        "trial_id": f"{dataset}{way}{val}{seconds}",
        **others,
    }


def test_the_best_by_validation_is_chosen_and_the_cheaper_one_on_ties(findings):
    here = pl.DataFrame(
        [
            trial("a", "linear probe", 0.8, 0.9, 5.0),
            trial("a", "linear probe", 0.9, 0.6, 7.0),
            trial("a", "full fine-tuning", 0.9, 0.7, 6.0),
            trial("b", "linear probe", 0.5, 0.4, 1.0),
        ]
    )
    assert sorted(findings.chosen(here, "dataset").select("dataset", "test").iter_rows()) == [("a", 0.7), ("b", 0.4)]
    by_way = findings.chosen(here, ["dataset", "way"]).select("dataset", "way", "test")
    assert ("a", "linear probe", 0.6) in by_way.rows()


def test_ways_are_compared_with_the_probe_of_the_same_dataset(findings):
    here = pl.DataFrame(
        [
            trial("a", "linear probe", 0.8, 0.7, 2.0),
            trial("a", "full fine-tuning", 0.8, 0.8, 20.0),
            trial("b", "linear probe", 0.8, 0.6, 2.0),
            trial("b", "full fine-tuning", 0.8, 0.9, 60.0),
            trial("c", "linear probe", 0.8, 0.6, 1.0, n_dims=3),
            trial("c", "radiomics", 0.8, 0.5, 3.0, n_dims=3),
            trial("d", "full fine-tuning", 0.8, 0.9, 9.0),  # without a probe beside it
        ]
    )
    full, radiomics = findings.against_probe(here)
    assert full[0] == "full fine-tuning"
    assert full[1].startswith("0.200 [")  # the mean of 0.1 and 0.3
    assert full[1].endswith("(2)")
    assert full[2:] == ["too few", "20.0"]  # the median of 10 and 30 times
    assert radiomics == ["radiomics", "too few", "-0.100 (1)", "3.0"]


def test_a_budget_limits_the_seconds_of_a_trial(findings):
    here = pl.DataFrame(
        [
            trial("a", "linear probe", 0.7, 0.6, 5.0),
            trial("a", "full fine-tuning", 0.9, 0.8, 15.1),
            trial("b", "linear probe", 0.9, 0.9, 4.0),
            trial("b", "full fine-tuning", 0.8, 0.9, 100.0),
        ]
    )
    five, fifteen, sixty, _ = list(findings.by_budget(here))[:4]
    assert five[:3] == fifteen[:1] + [5, 2]
    assert five[3].startswith("0.750 [")
    assert five[4].startswith("0.100 [")  # 0.2 lost on a, nothing on b
    assert five[5] == "linear probe 2"
    assert fifteen[3:] == five[3:]
    assert sixty[3].startswith("0.850 [")
    assert sorted(sixty[5].split(", ")) == ["full fine-tuning 1", "linear probe 1"]


def test_pairs_agree_in_all_but_the_way(findings):
    every = pl.DataFrame(
        [
            trial("a", "linear probe", 0.5, 0.5, 1.0),
            trial("a", "full fine-tuning", 0.5, 0.8, 1.0),
            trial("a", "full fine-tuning", 0.5, 0.1, 1.0, lr=0.01),  # no probe has this learning rate
            trial("a", "full fine-tuning", 0.5, 0.1, 1.0, seed=1),
            trial("a", "linear probe", 0.5, 0.7, 1.0, fold=1),
            trial("a", "full fine-tuning", 0.5, 0.6, 1.0, fold=1),
            trial("b", "linear probe", 0.5, 0.5, 1.0, design="sobol"),
            trial("b", "full fine-tuning", 0.5, 0.1, 1.0, design="sobol"),
        ]
    )
    assert list(findings.matched(every)) == [["`net`", 2, "0.100 (1)"]]  # 0.3 and -0.1, of one dataset
