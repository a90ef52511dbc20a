"""Cross-entropy with smoothing and class weights; mixup and CutMix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta as beta_distribution
from scipy.stats import kstest
from tiny_recipe import curve, normal, tiny_config, tiny_data, tiny_trial
from torch.nn import functional as F

from corpus_builder.recipe.loss import class_weights, cross_entropy
from corpus_builder.recipe.mixing import Mix, draw_mix, mixed

LABELS = torch.tensor([0, 1, 2, 2, 1, 2, 2])
OTHERS = LABELS.flip(0)
WEIGHTS = torch.tensor([3.0, 0.5, 0.25])


class TestCrossEntropy:
    @pytest.mark.parametrize("smoothing", [0.0, 0.15])
    @pytest.mark.parametrize("weights", [None, WEIGHTS])
    def test_value_and_gradient_are_those_of_torch(self, smoothing, weights):
        ours, theirs = (normal(7, 3).requires_grad_() for _ in range(2))
        loss = cross_entropy(ours, LABELS, smoothing=smoothing, weights=weights)
        reference = F.cross_entropy(theirs, LABELS, weights, label_smoothing=smoothing)
        assert torch.allclose(loss, reference, atol=1e-6)
        (gradient,), (expected,) = torch.autograd.grad(loss, ours), torch.autograd.grad(reference, theirs)
        assert torch.allclose(gradient, expected, atol=1e-6)

    def test_without_smoothing_and_weights_it_is_torchs_to_the_last_bit(self):
        logits = normal(7, 3) * 30
        assert torch.equal(cross_entropy(logits, LABELS), F.cross_entropy(logits, LABELS))

    def test_smoothing_spreads_its_share_evenly_by_hand(self):
        logits = torch.tensor([[2.0, 0.0, -1.0]])
        target = torch.tensor([[0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3]])
        expected = -(target * logits.log_softmax(dim=1)).sum()
        assert cross_entropy(logits, torch.tensor([0]), smoothing=0.1).item() == pytest.approx(
            expected.item(), rel=1e-6
        )

    def test_mixed_labels_are_one_target_of_two_classes(self):
        logits = normal(7, 3)
        target = 0.3 * F.one_hot(LABELS, 3) + 0.7 * F.one_hot(OTHERS, 3)
        loss = cross_entropy(logits, LABELS, smoothing=0.1, other_labels=OTHERS, share=0.3)
        assert torch.allclose(loss, F.cross_entropy(logits, target, label_smoothing=0.1), atol=1e-6)


class TestClassWeights:
    def test_they_are_inverse_to_frequency_and_1_on_average_over_the_samples(self):
        weights = class_weights(tiny_config(class_balance="weighting"), LABELS, 3)
        assert weights.tolist() == pytest.approx([7 / 3, 7 / 6, 7 / 12])
        assert weights[LABELS].mean().item() == pytest.approx(1.0)

    def test_a_class_without_samples_gets_none(self):
        weights = class_weights(tiny_config(class_balance="weighting"), LABELS, 5)
        assert weights[3:].tolist() == [0.0, 0.0]
        assert weights[LABELS].mean().item() == pytest.approx(1.0)

    @pytest.mark.parametrize("kind", ["none", "sampling"])
    def test_other_ways_to_balance_weigh_nothing(self, kind):
        assert class_weights(tiny_config(class_balance=kind), LABELS, 3) is None


def draws(n, kind, size=(12, 10), batch=4, seed=0, **values):
    rng = np.random.default_rng(seed)
    return [draw_mix(tiny_config(mixing=kind, **values), batch, size, rng) for _ in range(n)]


class TestDrawingAMix:
    def test_none_draws_nothing_and_leaves_the_generator_alone(self):
        rng = np.random.default_rng(0)
        assert draw_mix(tiny_config(), 4, (8, 8), rng) is None
        assert rng.random() == np.random.default_rng(0).random()

    @pytest.mark.parametrize("probability", [0.25, 0.5, 1.0])
    def test_the_probability_is_the_share_of_batches_that_are_mixed(self, probability):
        found = draws(2000, "mixup", mixing_probability=probability)
        assert np.mean([mix is not None for mix in found]) == pytest.approx(probability, abs=0.03)

    @pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0])
    def test_the_weight_of_mixup_follows_the_beta_distribution(self, alpha):
        shares = [mix.share for mix in draws(1500, "mixup", mixing_alpha=alpha)]
        assert kstest(shares, beta_distribution(alpha, alpha).cdf).pvalue > 0.01

    def test_both_is_either_by_a_fair_coin(self):
        cut = [mix.keep.numel() > 1 for mix in draws(2000, "both")]
        assert np.mean(cut) == pytest.approx(0.5, abs=0.03)

    def test_a_box_that_meets_no_border_has_the_side_that_its_share_asks_for(self):
        """Sides of floor(length * sqrt(1 - share)), around a centre that is anywhere (Yun et al., ICCV 2019)."""
        rng, twin = np.random.default_rng(3), np.random.default_rng(3)
        config = tiny_config(mixing="cutmix", mixing_alpha=1.0)
        whole = 0
        for _ in range(300):
            mix = draw_mix(config, 2, (40, 20), rng)
            twin.random()
            side = (1 - twin.beta(1.0, 1.0)) ** 0.5
            twin.permutation(2)
            centres = [int(twin.integers(length)) for length in (40, 20)]
            cuts = [int(length * side) for length in (40, 20)]
            starts = [centre - cut // 2 for centre, cut in zip(centres, cuts)]
            if all(s >= 0 and s + c <= length for s, c, length in zip(starts, cuts, (40, 20))):
                assert (1 - mix.keep).sum() == cuts[0] * cuts[1]
                whole += 1
        assert whole > 50

    @given(seed=st.integers(0, 10**6), size=st.lists(st.integers(1, 9), min_size=2, max_size=3))
    def test_the_share_of_cutmix_is_exactly_that_of_the_positions_it_keeps(self, seed, size):
        (mix,) = draws(1, "cutmix", tuple(size), seed=seed, mixing_alpha=1.0)
        assert mix.keep.shape == tuple(size)
        assert set(mix.keep.unique().tolist()) <= {0.0, 1.0}
        kept = int(mix.keep.sum())
        assert mix.share == np.float32(kept / mix.keep.numel())
        cut = (mix.keep == 0).nonzero()
        if len(cut):  # a box: it holds all positions between its corners
            sides = cut.amax(dim=0) - cut.amin(dim=0) + 1
            assert sides.prod() == len(cut)

    def test_partners_are_a_permutation(self):
        assert all(sorted(mix.partner.tolist()) == [0, 1, 2, 3] for mix in draws(20, "both"))


class TestMixing:
    @pytest.mark.parametrize("shape", [(4, 3, 6, 5), (4, 1, 4, 5, 6)])
    def test_by_a_loop(self, shape):
        x = normal(*shape)
        for kind in ("mixup", "cutmix"):
            for mix in draws(5, kind, shape[2:], mixing_alpha=1.0):
                got = mixed(x, mix)
                keep = mix.keep.expand(shape[2:])
                for i, j in enumerate(mix.partner.tolist()):
                    for c in range(shape[1]):
                        assert torch.allclose(got[i, c], keep * x[i, c] + (1 - keep) * x[j, c], atol=1e-6)

    def test_the_neutral_mix_changes_no_bit(self):
        x = normal(4, 1, 6, 5)
        assert torch.equal(mixed(x, Mix.neutral(4, (6, 5))), x)


@pytest.mark.parametrize(
    "values",
    [
        {"label_smoothing": 0.1},
        {"class_balance": "weighting"},
        {"mixing": "mixup"},
        {"mixing": "cutmix"},
        {"mixing": "both", "mixing_probability": 0.5},
    ],
    ids=str,
)
def test_in_a_trial_it_changes_the_curve(values):
    data = tiny_data()
    result = tiny_trial(data, **values)
    assert result.error is None
    assert curve(result)[-1] != curve(tiny_trial(data))[-1]
