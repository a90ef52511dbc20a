"""The tables of corpora whose answers are known, the page, and the command."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import assert_one_line_error
from factory import make_content, make_corpus, without_epochs

import metaquery as mq
from metaquery.diagnostics import diagnose
from metaquery.diagnostics.charts import dots
from metaquery.diagnostics.curves import Estimate
from metaquery.drawing.axes import share_axis
from metaquery.schema.writer import write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> mq.Corpus:
    """Eight configs of each dataset have a second seed, and all have a second fold."""
    return mq.open(make_corpus(tmp_path_factory.mktemp("diagnosed") / "corpus", folds=2, repeats=8))


@pytest.fixture(scope="module")
def parts(corpus: mq.Corpus) -> dict[str, list[dict[str, Any]]]:
    return rows_of(corpus)


def rows_of(corpus: mq.Corpus, metric: str | None = None) -> dict[str, list[dict[str, Any]]]:
    return {name: part.result.arrow().to_pylist() for name, part in diagnose(corpus, metric).parts.items()}


def first(corpus: mq.Corpus, dataset: str, metric: str = "auc") -> list[dict[str, Any]]:
    """The summary of the trials of a dataset at its first fold and seed that have a best epoch."""
    rows = corpus.summary(metric).to_pylist()
    return [r for r in rows if (r["dataset"], r["fold"], r["seed"]) == (dataset, 0, 0) and r["best_val"] is not None]


def test_failures_and_costs_are_those_of_sql(corpus: mq.Corpus, parts: dict[str, list[dict[str, Any]]]) -> None:
    counts = dict(corpus.sql("select status, count(*) from trials group by status").rows())
    found: dict[str, int] = {}
    for row in parts["failures"]:
        found[row["status"]] = found.get(row["status"], 0) + row["trials"]
    assert found == counts
    assert sum(row["share"] for row in parts["failures"]) == pytest.approx(1)
    (timed_out,) = [row for row in parts["failures"] if row["status"] == "timed_out"]
    assert timed_out == {
        "status": "timed_out", "cause": "time limit of N s reached", "trials": 1, "share": 1 / sum(counts.values()),
        "datasets": 1, "backbones": 1,
    }  # fmt: skip
    costs = corpus.sql(
        "select dataset, backbone, count(*), max(s) from (select trial_id, sum(train_seconds + eval_seconds) s "
        "from curves group by 1) join trials using (trial_id) join configs using (config_id) "
        "where status in ('completed', 'early_stopped') group by all order by all"
    ).rows()
    assert [(row["dataset"], row["backbone"], row["trials"]) for row in parts["cost"]] == [row[:3] for row in costs]
    assert [row["most"] for row in parts["cost"]] == pytest.approx([row[3] for row in costs], rel=1e-5)
    unfinished = sum(n for status, n in counts.items() if status not in ("completed", "early_stopped"))
    assert sum(row["unfinished"] for row in parts["cost"]) == unfinished


def test_noise_is_that_of_the_repeats(corpus: mq.Corpus, parts: dict[str, list[dict[str, Any]]]) -> None:
    (found,) = [r for r in parts["noise"] if (r["dataset"], r["metric"], r["split"]) == ("beta", "loss", "test")]
    rows = [r for r in corpus.summary("loss").to_pylist() if r["dataset"] == "beta" and r["best_test"] is not None]
    value = {(r["config_id"], r["fold"], r["seed"]): r["best_test"] for r in rows}
    seeds = [value[key] - value[*key[:2], 1] for key in value if key[2] == 0 and (*key[:2], 1) in value]
    folds = [value[key] - value[key[0], 1, key[2]] for key in value if key[1] == 0 and (key[0], 1, key[2]) in value]
    assert found["seed_degrees"] == len(seeds) >= 15
    assert found["seed_deviation"] == pytest.approx(math.sqrt(np.mean(np.square(seeds)) / 2))
    assert found["fold_deviation"] == pytest.approx(math.sqrt(np.mean(np.square(folds)) / 2))
    assert found["config_deviation"] == pytest.approx(
        np.std([r["best_test"] for r in first(corpus, "beta", "loss")], ddof=1)
    )
    assert found["seed_share_of_variance"] == pytest.approx((found["seed_deviation"] / found["config_deviation"]) ** 2)


def test_losses_are_turned_round(corpus: mq.Corpus) -> None:
    for row in rows_of(corpus, "loss")["selection"]:
        mine = first(corpus, row["dataset"], "loss")
        assert row["gap"] == pytest.approx(np.mean([r["best_test"] - r["best_val"] for r in mine]), rel=1e-5)
        assert row["configs"] == len(mine)
        assert row["best_tenth"] == len(mine) // 10
        chosen = min(mine, key=lambda r: r["best_val"])["best_test"]
        assert row["test_regret_of_selected"] == pytest.approx(chosen - min(r["best_test"] for r in mine))


def test_pretraining_is_judged_after_equally_many_trials(parts: dict[str, list[dict[str, Any]]]) -> None:
    for row in parts["pretraining"]:
        assert row["drawn"] == min(row["pretrained_trials"], row["scratch_trials"]) >= 5
        assert (row["pretrained_backbones"], row["scratch_backbones"]) == (1, 2)
        assert 0.5 < row["pretrained_ahead_untuned"] <= 1  # the factory makes pretrained ones better
        assert row["pretrained_test"] >= row["scratch_test"] - 0.05


def test_members_without_epochs_have_no_curves(tmp_path: Path) -> None:
    content = without_epochs(make_content(datasets=("alpha",), failures=False, sobol=0), "small.scratch")
    path = write_corpus(
        tmp_path / "corpus", name="mixed", version="1", builder_version="0", devices=["cpu"], provenance={}, **content
    )
    found = rows_of(mq.open(path))
    assert {row["curves"] for row in found["fidelity"]} == {18}
    assert [row["curves"] for row in found["shapes"]] == [18]
    (fair,) = found["pretraining"]
    assert (fair["pretrained_trials"], fair["scratch_trials"], fair["scratch_backbones"]) == (9, 9, 1)
    assert found["selection"][0]["configs"] == 27
    assert sum(row["trials"] for row in found["cost"]) == 29


def test_too_little_is_counted_and_null(tmp_path: Path) -> None:
    content = make_content(datasets=("alpha",), failures=False, sobol=0, repeats=1)
    trials, configs = content["tables"]["trials"], content["tables"]["configs"]
    few = set(trials["trial_id"].to_pylist()[:4])
    for name, key in (("trials", "trial_id"), ("curves", "trial_id")):
        table = content["tables"][name]
        content["tables"][name] = table.filter([value in few for value in table[key].to_pylist()])
    content["predictions"] = [item for item in content["predictions"] if item.trial_id in few]
    used = set(content["tables"]["trials"]["config_id"].to_pylist())
    content["tables"]["configs"] = configs.filter([value in used for value in configs["config_id"].to_pylist()])
    path = write_corpus(
        tmp_path / "corpus", name="few", version="1", builder_version="0", devices=["cpu"], provenance={}, **content
    )
    diagnosis = diagnose(mq.open(path))
    found = {name: part.result.arrow().to_pylist() for name, part in diagnosis.parts.items()}
    assert [(row["curves"], row["rank_correlation"], row["regret"]) for row in found["fidelity"]] == [
        (4, None, None)
    ] * 3
    assert (found["shapes"][0]["complete"], found["shapes"][0]["fell"]) == (4, None)
    assert (found["selection"][0]["configs"], found["selection"][0]["gap"]) == (4, None)
    assert {row["share"] for row in found["importance"]} == {None}
    assert (found["pretraining"][0]["drawn"], found["pretraining"][0]["pretrained_ahead"]) == (0, None)
    assert {row["seed_deviation"] for row in found["noise"]} == {None}
    assert "too few" in Path(diagnosis.write(tmp_path / "out")).read_text()


def test_the_command_prints_it_and_writes_tables_and_a_page(command: Any, corpus: mq.Corpus, tmp_path: Path) -> None:
    done = command("metaquery", "diagnose", corpus.root, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "What an early epoch tells" in done.stdout
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out" / "index.html")
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<svg") == 6
    assert "http" not in page.replace("http-equiv", "")
    assert (tmp_path / "out" / "fidelity.csv").read_text().startswith("dataset,epoch,curves,rank_correlation,")
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) < 200_000
    again = diagnose(corpus).write(tmp_path / "again")
    assert again.read_text() == page  # same corpus, same bytes


def test_a_directory_of_something_else_is_refused_before_anything_is_read(command: Any, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    refused = command("metaquery", "diagnose", tmp_path / "no corpus", "--out", tmp_path / "full")
    assert_one_line_error(refused, "already holds something else (notes")


def test_charts_show_names_as_text_and_leave_out_what_is_not_known() -> None:
    known = Estimate(0.5, math.nan, math.nan)
    drawing = dots(
        "<u>", ["<b>", "c"], {"<i>": [Estimate(0.5, 0.25, 0.75), None], "d": [None, known]}, share_axis("<s>")
    )
    text = drawing.inline()
    for name in "bius":
        assert f"<{name}>" not in text
    assert text.count("data-tip") == 2
    assert "&lt;i&gt;: 0.5 [0.25, 0.75]" in text
