"""Diagnostics: measures against values computed by hand, and the tables of a corpus whose answers are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_one_line_error
from factory import make_corpus
from hypothesis import given
from hypothesis import strategies as st

import metaquery as mq
from metaquery.diagnostics import diagnose
from metaquery.diagnostics.charts import dots
from metaquery.diagnostics.curves import crossing_share, early_regret, rank_correlation, shapes
from metaquery.diagnostics.variance import importance, pooled_deviation

NAN = math.nan
# Four curves of three epochs: at the first epoch the second is best, at the end the first; the last one ended early.
SCORES = np.array([[0.5, 0.7, 0.9], [0.6, 0.8, 0.75], [0.4, 0.3, 0.2], [0.9, NAN, NAN]])


class TestCurves:
    def test_what_the_first_epoch_tells(self):
        assert rank_correlation(SCORES, 1) == pytest.approx(0.5)  # ranks 2 3 1 against 3 2 1: 1 - 6 * 2 / (3 * 8)
        assert early_regret(SCORES, 1) == pytest.approx(0.15)
        assert crossing_share(SCORES, 1) == pytest.approx(1 / 3)  # of the three pairs, the first two curves cross

    def test_the_last_epoch_tells_everything(self):
        assert rank_correlation(SCORES, 3) == pytest.approx(1)
        assert (early_regret(SCORES, 3), crossing_share(SCORES, 3)) == (0, 0)

    def test_equals_share_the_choice_and_have_no_order(self):
        level = np.array([[0.5, 0.9], [0.5, 0.7], [0.4, 0.1]])
        assert early_regret(level, 1) == pytest.approx(0.1)
        assert crossing_share(level, 1) == 0

    def test_too_little_is_no_number(self):
        assert math.isnan(rank_correlation(SCORES[:2], 1))
        assert math.isnan(rank_correlation(np.array([[0.5, 1], [0.5, 2], [0.5, 3]]), 1))
        for measure in (early_regret, crossing_share):
            assert math.isnan(measure(SCORES[3:], 1))

    def test_shapes_are_of_complete_curves(self):
        found = shapes(SCORES)
        assert found.complete == 3
        assert found.peaked == pytest.approx(2 / 3)
        assert found.fell == pytest.approx(2 / 3)  # by 0.05 and by 0.2
        assert found.stuck == pytest.approx(1 / 3)
        assert shapes(SCORES[3:]).complete == 0


class TestVariance:
    def test_deviations_are_pooled_by_their_degrees_of_freedom(self):
        spread = pooled_deviation([np.array([1.0, 3.0]), np.array([0.0, 0.0, 6.0]), np.array([9.0])])
        assert spread == (pytest.approx(math.sqrt((2 + 24) / 3)), 3)
        assert math.isnan(pooled_deviation([np.array([1.0])]).deviation)

    def test_an_additive_factorial_is_divided_into_its_main_effects(self):
        a, b = np.repeat([0, 1], 50), np.tile([0, 1], 50)
        found = importance(3.0 * a + 1.0 * b, {"a": a.tolist(), "b": b.tolist(), "one": [7] * 100})
        # Sums of squares 225 and 25 of 250. Noise of a is 25 / 98, so (225 - 0.255) / (250 + 0.255).
        assert found == {"a": pytest.approx((225 - 25 / 98) / (250 + 25 / 98)), "b": pytest.approx(0.0905, abs=1e-3)}

    def test_a_conditional_setting_is_judged_where_it_is_active(self):
        scores = np.array([0.0, 0.0, 1.0, 1.0, 50.0, 60.0])
        found = importance(scores, {"momentum": [0.5, 0.5, 0.9, 0.9, None, None]})
        assert found == {"momentum": pytest.approx(1.0)}

    @given(st.integers(0, 2**32 - 1))
    def test_what_has_no_effect_has_next_to_no_importance(self, seed):
        rng = np.random.default_rng(seed)
        found = importance(rng.normal(size=400), {"x": rng.integers(0, 4, 400).tolist()})
        assert 0 <= found["x"] < 0.08


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return mq.open(make_corpus(tmp_path_factory.mktemp("diagnosed") / "corpus"))


class TestDiagnosis:
    def test_it_says_what_sql_says(self, corpus):
        parts = diagnose(corpus).parts
        counts = corpus.sql("select status, count(*) from trials group by status order by status").rows()
        found: dict[str, int] = {}
        for status, _, trials in parts["failures"].result.rows():
            found[status] = found.get(status, 0) + trials
        assert sorted(found.items()) == counts
        dearest = corpus.sql(
            "select dataset, backbone, max(s) from (select trial_id, sum(train_seconds + eval_seconds) s from curves "
            "group by 1) join trials using (trial_id) join configs using (config_id) group by all order by all"
        ).rows()
        cost = [(row[0], row[1], row[-1]) for row in parts["cost"].result.rows()]
        assert [row[:2] for row in cost] == [row[:2] for row in dearest]
        assert [row[2] for row in cost] == pytest.approx([row[2] for row in dearest], rel=1e-5)

    def test_losses_are_turned_round(self, corpus):
        gaps = {row[0]: row[2] for row in diagnose(corpus, "loss").parts["selection"].result.rows()}
        summary = corpus.summary("loss").to_pylist()
        for dataset, gap in gaps.items():
            mine = [r for r in summary if r["dataset"] == dataset and r["fold"] == 0 and r["seed"] == 0]
            by_hand = [r["best_test"] - r["best_val"] for r in mine if r["best_val"] is not None]
            assert gap == pytest.approx(np.mean(by_hand), rel=1e-5)

    def test_the_command_prints_it_and_writes_a_page_that_escapes(self, command, corpus, tmp_path: Path):
        done = command("metaquery", "diagnose", corpus.root, "--out", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        assert "What an early epoch tells" in done.stdout
        assert done.stdout.splitlines()[-1] == str(tmp_path / "out" / "index.html")
        page = (tmp_path / "out" / "index.html").read_text()
        assert page.count("<svg") >= 4
        assert "http" not in page
        assert (tmp_path / "out" / "fidelity.csv").read_text().startswith("dataset,epoch,curves,rank_correlation")
        assert "<b>" not in dots(["<b>"], {"<i>": [1.0]}, axis="<u>")
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "notes").touch()
        refused = command("metaquery", "diagnose", corpus.root, "--out", tmp_path / "full")
        assert_one_line_error(refused, "already holds something else (notes")
