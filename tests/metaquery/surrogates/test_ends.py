"""How trials end: one alone as among many, by the rules, and drawn as often as is likely."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metaquery.surrogates.ends import Ends
from metaquery.types import SOUND, Status

EPOCHS = 27
COMPLETED, EARLY, DIVERGED, MEMORY = Status.COMPLETED, Status.EARLY_STOPPED, Status.DIVERGED, Status.OUT_OF_MEMORY
EVERY = (COMPLETED, EARLY, DIVERGED, MEMORY)


def single(*values):
    return np.array(values, np.float32)


@settings(max_examples=200, deadline=None)
@given(
    statuses=st.lists(st.sampled_from(tuple(Status)), min_size=1, unique=True).filter(lambda s: set(s) & set(SOUND)),
    data=st.data(),
)
def test_one_alone_ends_as_among_many(statuses, data):
    ends = Ends(statuses, EPOCHS)
    n = data.draw(st.integers(1, 5))
    logits = data.draw(arrays(np.float32, (n, len(statuses)), elements=st.floats(-30, 30, width=32)))
    log_epochs = data.draw(arrays(np.float32, n, elements=st.floats(-50, 50, width=32)))
    end, ran = ends.likeliest(logits, log_epochs)
    assert [*zip(end, ran, strict=True)] == [*map(ends.likeliest_of_one, logits, log_epochs)]
    for position, epochs in zip(end, ran, strict=True):
        least = {COMPLETED: EPOCHS, EARLY: 1}.get(statuses[position], 0)
        assert least <= epochs <= EPOCHS
        assert (epochs == EPOCHS) == (statuses[position] is COMPLETED)


def test_a_trial_fails_where_that_is_as_likely_as_not():
    ends = Ends(EVERY, EPOCHS)
    eleven = math.log(12.0)  # one more than the epochs it runs
    for shares, end, ran in (
        ((0.4, 0.2, 0.3, 0.1), COMPLETED, 27),
        ((0.2, 0.4, 0.1, 0.3), EARLY, 11),
        ((0.4, 0.0, 0.25, 0.35), MEMORY, 11),  # failures are likelier together, though each is less likely
        ((0.25, 0.25, 0.5, 0.0), DIVERGED, 11),  # exactly as likely as not
    ):
        logits = np.log(np.maximum(single(*shares), np.float32(1e-30))) + np.float32(7.0)  # a constant says nothing
        position, epochs = ends.likeliest_of_one(logits, np.float32(eleven))
        assert (EVERY[position], epochs) == (end, ran)
        probability = ends.failure_probability(logits[None])
        assert probability == pytest.approx([shares[2] + shares[3]], abs=1e-6)


def test_without_failures_all_complete_whatever_is_predicted():
    ends = Ends((COMPLETED,), EPOCHS)
    assert ends.likeliest_of_one(single(-3.0), np.float32(1.0)) == (0, EPOCHS)
    assert ends.drawn(single(-3.0), np.float32(1.0), np.random.default_rng(0)) == (0, EPOCHS)
    assert ends.failure_probability(single(-3.0)[None]).tolist() == [0.0]


def test_ends_are_drawn_as_often_as_is_likely():
    ends = Ends(EVERY, EPOCHS)
    shares = np.array([0.5, 0.1, 0.3, 0.1])
    rng = np.random.default_rng(0)
    drawn = [ends.drawn(np.log(shares).astype(np.float32), np.float32(math.log(6.0)), rng) for _ in range(4000)]
    counts = np.bincount([end for end, _ in drawn], minlength=4)
    assert counts / 4000 == pytest.approx(shares, abs=4 * 0.5 / math.sqrt(4000))  # four standard errors of a half
    assert set(drawn) == {(0, 27), (1, 5), (2, 5), (3, 5)}
