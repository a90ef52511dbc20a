"""Evaluations: what runs, what is recorded, and that it follows from the studies."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import metaquery as mq
from metaquery.errors import InvalidInput, LeakageError, UnknownName
from metaquery.evaluation.analysis import Analysis, counted, number
from metaquery.optimizers import optimizer


def test_every_row_follows_from_its_study(corpus: mq.Corpus, evaluation: mq.Evaluation) -> None:
    rows = [
        r for r in evaluation.results.to_pylist() if (r["optimizer"], r["dataset"], r["seed"]) == ("dehb", "beta", 1)
    ]
    bench = corpus.benchmark("beta")
    trajectory = mq.run(optimizer("dehb", seed=1), bench, mq.Budget(seconds=900), workers=2)

    curves = [bench.curve(config) for config in bench.configs or ()]
    for row, incumbent in zip(rows, trajectory.incumbents, strict=True):
        assert (row["clock_seconds"], row["epochs"]) == (incumbent.clock_seconds, incumbent.epochs)
        assert (row["evaluations"], row["epoch"]) == (incumbent.evaluations, incumbent.epoch)
        assert row["config_id"] == incumbent.config.config_id
        assert row["validation"] == pytest.approx(1 - incumbent.value)
        assert row["test"] == pytest.approx(1 - incumbent.test)
        for split, loss in (("validation", incumbent.value), ("test", incumbent.test)):
            losses = np.concatenate([c.value if split == "validation" else c.test for c in curves])
            expected = (loss - losses.min()) / (losses.max() - losses.min())
            assert row[f"{split}_regret"] == pytest.approx(expected)
    (study,) = evaluation.analysis.studies(optimizer="dehb", dataset="beta", seed=1)
    assert study["stop"] == trajectory.stop
    assert study["evaluations"] == len(trajectory.steps)
    assert study["statuses"] == Counter(step.status for step in trajectory.steps)
    last = trajectory.incumbents[-1]
    assert json.loads(rows[-1]["config"]) == dict(last.config)
    assert rows[-1]["cost_seconds"] == bench.query(last.config, last.epoch).cost_seconds


def test_all_optimizers_share_datasets_and_seeds(corpus: mq.Corpus, evaluation: mq.Evaluation) -> None:
    studies = evaluation.provenance["studies"]
    expected = {(o, d, s) for o in ("random", "dehb") for d in ("alpha", "beta", "gamma") for s in range(3)}
    assert {(s["optimizer"], s["dataset"], s["seed"]) for s in studies} == expected
    assert len(studies) == len(expected)
    assert evaluation.provenance["benchmark"]["source"] == corpus.hash == evaluation.provenance["corpus"]["hash"]
    assert evaluation.provenance["protocol"]["folds"] == [
        {"test": "alpha", "train": ["beta"], "validation": [], "group": "alpha"},  # gamma is of the family of alpha
        {"test": "beta", "train": ["alpha", "gamma"], "validation": [], "group": "beta"},
        {"test": "gamma", "train": ["beta"], "validation": [], "group": "gamma"},
    ]


def test_summary_is_the_mean_of_dataset_means(evaluation: mq.Evaluation) -> None:
    summary = {row["optimizer"]: row for row in evaluation.summary().arrow().to_pylist()}
    assert list(summary) == sorted(summary, key=lambda name: summary[name]["test_regret_100"])
    rows = evaluation.results.to_pylist()
    for name in ("random", "dehb"):
        for split in ("validation", "test"):
            for share in (0.1, 0.25, 1.0):
                by_dataset = []
                for dataset in ("alpha", "beta", "gamma"):
                    regrets = []
                    for seed in range(3):
                        own = [r for r in rows if (r["optimizer"], r["dataset"], r["seed"]) == (name, dataset, seed)]
                        held = [r[f"{split}_regret"] for r in own if r["clock_seconds"] <= share * 900]
                        regrets.append(held[-1] if held else 1.0)
                    by_dataset.append(np.mean(regrets))
                key = f"{split}_regret_{share * 100:.0f}"
                assert summary[name][key] == pytest.approx(np.mean(by_dataset))
                assert summary[name][f"{key}_low"] <= summary[name][key] <= summary[name][f"{key}_high"]
    assert summary["random"]["rank_test"] + summary["dehb"]["rank_test"] == pytest.approx(3)


def test_results_can_be_read_back(evaluation: mq.Evaluation, tmp_path: Path) -> None:
    page = evaluation.report(tmp_path / "out")
    assert page == tmp_path / "out" / "report" / "index.html"
    again = mq.Evaluation.load(tmp_path / "out")
    assert again.results.equals(evaluation.results)
    assert again.summary().rows() == evaluation.summary().rows()
    assert str(again) == str(evaluation)


def test_factories_stand_for_variants(corpus: mq.Corpus) -> None:
    variants = {f"dehb eta {eta}": lambda seed, eta=eta: optimizer("dehb", seed=seed, eta=eta) for eta in (2, 3)}
    found = mq.evaluate(corpus, variants, budget=mq.Budget(trials=10), seeds=1, datasets=["beta"], protocol="single")
    assert [o["options"]["eta"] for o in found.provenance["optimizers"]] == [2, 3]
    assert found.analysis.axis == "trials"
    assert set(found.results["optimizer"].to_pylist()) == set(variants)


def test_one_dataset_has_its_interval_over_seeds(corpus: mq.Corpus) -> None:
    options: dict[str, Any] = {"budget": mq.Budget(epochs=60), "datasets": ["beta"]}
    several = mq.evaluate(corpus, ["random"], seeds=4, **options).analysis
    assert several.units == (4, "seeds")
    row = several.summary[0]
    assert row["test_regret_100_low"] < row["test_regret_100"] < row["test_regret_100_high"]
    assert math.isnan(mq.evaluate(corpus, ["random"], seeds=1, **options).analysis.summary[0]["test_regret_100_low"])


def test_a_study_without_an_incumbent_counts_as_the_worst(corpus: mq.Corpus) -> None:
    found = mq.evaluate(corpus, ["random"], budget=mq.Budget(seconds=0.001), seeds=2, datasets=["beta"])
    assert found.results.num_rows == 0
    row = found.analysis.summary[0]
    assert row["test_regret_100"] == 1.0
    (dataset,) = found.provenance["datasets"]
    assert row["final_test"] == dataset["test"]["worst"] < dataset["test"]["best"]


def test_every_metric_can_be_evaluated(corpus: mq.Corpus) -> None:
    found = mq.evaluate(corpus, ["random"], budget=mq.Budget(trials=5), seeds=1, datasets=["beta"], metric="loss")
    (dataset,) = found.provenance["datasets"]
    assert dataset["test"]["best"] < dataset["test"]["worst"]  # a loss is better when smaller, and is shown as it is
    last = found.results.to_pylist()[-1]
    assert last["validation"] == pytest.approx(min(found.results["validation"].to_pylist()))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"optimizers": "dehb"}, InvalidInput, "must be a list of names, got the single text 'dehb'"),
        ({"optimizers": []}, InvalidInput, "at least one optimizer, each once, got none"),
        ({"optimizers": ["random", "random"]}, InvalidInput, "each once, got random, random"),
        ({"optimizers": ["random", "dhb"]}, UnknownName, "unknown optimizer 'dhb': did you mean dehb"),
        ({"seeds": 0}, InvalidInput, "seeds must be a positive integer, got 0"),
        ({"protocol": "kfold"}, UnknownName, "unknown protocol 'kfold'"),
        ({"datasets": ["omega"]}, UnknownName, "unknown dataset 'omega'"),
        ({"train": ["gamma"], "datasets": ["alpha"]}, LeakageError, r"gamma \(training\) and alpha"),
        ({"metric": "auroc"}, UnknownName, "unknown metric 'auroc'"),
        ({"fold": 9}, UnknownName, "fold"),
        ({"workers": 0}, InvalidInput, "workers must be a positive integer"),
        ({"charging": "free"}, InvalidInput, "charging must be resume or restart"),
    ],
)
def test_bad_arguments_are_refused_and_leave_nothing(
    corpus: mq.Corpus, tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    options: dict[str, Any] = {"optimizers": ["random"], "budget": mq.Budget(trials=1), **arguments}
    with pytest.raises(error, match=message):
        mq.evaluate(corpus, out=tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_use_is_refused_before_anything_runs(corpus: mq.Corpus, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    def never(seed: int) -> Any:
        raise AssertionError("a study was made")

    with pytest.raises(InvalidInput, match="already holds something else"):
        mq.evaluate(corpus, {"never": never}, budget=mq.Budget(trials=1), out=tmp_path)


def test_a_directory_that_is_no_evaluation_cannot_be_loaded(evaluation: mq.Evaluation, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is not the output of metaquery evaluate"):
        mq.Evaluation.load(tmp_path)
    path = tmp_path / "results.parquet"
    pq.write_table(evaluation.results, path)
    with pytest.raises(InvalidInput, match="is not the output"):  # without its provenance
        mq.Evaluation.load(tmp_path)
    older = {key: value for key, value in evaluation.provenance.items() if key != "transfer"}
    mq.Evaluation(evaluation.results, older).save(path)
    with pytest.raises(InvalidInput, match="written by an earlier version: evaluate again"):
        mq.Evaluation.load(tmp_path)
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(InvalidInput, match="is not the output"):
        mq.Evaluation.load(tmp_path)


def test_progress_without_a_terminal_is_a_line_per_optimizer_and_dataset(
    corpus: mq.Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    mq.evaluate(corpus, ["random"], budget=mq.Budget(trials=2), seeds=2, datasets=["alpha", "beta"], progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["2/4 studies: random on alpha done", "4/4 studies: random on beta done"]


def test_words_for_counts_and_numbers() -> None:
    assert counted({"stalled": 1, "out_of_seconds": 3}) == "out of seconds (3), stalled (1)"
    assert [number(x) for x in (0.12345, -0.0001, math.nan)] == ["0.123", "0.000", "n/a"]


def test_curves_start_with_the_first_incumbent_and_end_with_the_budget(evaluation: mq.Evaluation) -> None:
    analysis: Analysis = evaluation.analysis
    assert analysis.grid[-1] == 900
    assert analysis.grid[0] == pytest.approx(min(evaluation.results["clock_seconds"].to_pylist()))
    for split in ("validation", "test"):
        regret = analysis.regret(split, analysis.grid)
        assert regret.shape == (2, 3, 3, len(analysis.grid))
        assert (regret >= 0).all()
        assert (regret <= 1).all()
        final = [band.mean[-1] for band in analysis.curves(split)]
        summary = {row["optimizer"]: row for row in analysis.summary}
        assert final == pytest.approx([summary[name][f"{split}_regret_100"] for name in analysis.optimizers])
        assert sum(band.mean for band in analysis.ranks(split)) == pytest.approx(3)
    validation = analysis.regret("validation", analysis.grid)
    assert (np.diff(validation, axis=-1) <= 1e-12).all()  # chosen on validation, so it never gets worse there
