"""The moving average of weights, and the order in which samples are seen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_recipe import curve, normal, tiny_config, tiny_data, tiny_model, tiny_trial

from corpus_builder.recipe import AveragedModel, Legal, Stream, random_layers
from corpus_builder.recipe.augmentation import draw
from corpus_builder.recipe.sampling import epoch_order

LABELS = torch.tensor([0] * 90 + [1] * 9 + [2])


class TestAverage:
    def test_weights_and_moving_statistics_by_hand(self):
        model = tiny_model().train()
        averaged = AveragedModel(model, 0.9)
        expected = {name: value.clone() for name, value in model.state_dict().items()}
        for step in range(1, 5):
            model(normal(4, 1, 16, 16, seed=step))  # moves the statistics
            with torch.no_grad():
                for number, p in enumerate(model.parameters()):
                    p.add_(normal(*p.shape, seed=number))
            averaged.update()
            decay = min(0.9, (1 + step) / (10 + step))
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    expected[name] = decay * expected[name] + (1 - decay) * value
                else:
                    expected[name] = value.clone()
        for name, value in averaged.evaluated.state_dict().items():
            assert torch.allclose(value, expected[name], atol=1e-5), name
        assert averaged.evaluated is not model

    def test_without_a_decay_the_model_itself_is_evaluated(self):
        model = tiny_model()
        averaged = AveragedModel(model, 0.0)
        averaged.update()
        assert averaged.evaluated is model

    def test_in_a_trial_it_changes_what_is_evaluated_and_not_what_is_trained(self):
        data = tiny_data()
        result, plain = curve(tiny_trial(data, ema=0.9)), curve(tiny_trial(data))
        assert [row[0] for row in result] == [row[0] for row in plain]
        assert all(a[1:] != b[1:] for a, b in zip(result, plain))
        assert len({row[1] for row in result}) == len(result)  # it moves


class TestOrder:
    def order(self, kind, n_epochs=1, labels=LABELS):
        generator = torch.Generator().manual_seed(0)
        config = tiny_config(class_balance=kind)
        return torch.cat([epoch_order(config, labels, generator) for _ in range(n_epochs)])

    @pytest.mark.parametrize("kind", ["none", "weighting"])
    def test_each_sample_comes_once_an_epoch_in_another_order(self, kind):
        both = self.order(kind, 2).view(2, -1)
        assert all(sorted(order.tolist()) == list(range(100)) for order in both)
        assert not torch.equal(both[0], both[1])

    def test_balanced_sampling_draws_every_class_as_often_and_its_samples_alike(self):
        found = self.order("sampling", 300)
        assert len(found) == 300 * 100
        shares = torch.bincount(LABELS[found]) / len(found)
        assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
        of_the_second = torch.bincount(found)[90:99] / len(found)
        assert of_the_second.tolist() == pytest.approx([1 / 27] * 9, abs=0.006)

    @given(st.lists(st.sampled_from([0, 1, 4]), min_size=1, max_size=30))
    def test_classes_without_samples_are_no_obstacle(self, labels):
        found = self.order("sampling", labels=torch.tensor(labels))
        assert len(found) == len(labels)
        assert 0 <= found.min() <= found.max() < len(labels)


class TestStream:
    def stream(self, seed=0, **values):
        config = tiny_config(**values)
        layers = random_layers(tiny_model(**values))
        return Stream(config, seed, LABELS, (12, 10), Legal((-1,)), layers)

    EVERYTHING = {"augmentation": "medical", "mixing": "both", "dropout": 0.3, "stochastic_norm": 0.5}  # noqa: RUF012

    def test_the_same_seed_makes_the_same_decisions_and_another_one_others(self):
        one, two, other = (
            self.stream(**self.EVERYTHING),
            self.stream(**self.EVERYTHING),
            self.stream(5, **self.EVERYTHING),
        )
        assert torch.equal(one.epoch(), two.epoch())
        a, b, c = one.step(8), two.step(8), other.step(8)
        assert torch.equal(a.transform.affine, b.transform.affine)
        assert torch.equal(a.mix.partner, b.mix.partner)
        assert set(a.layers) == {"head.0.mask", *(f"backbone.stages.stage{k}.1.choice" for k in (1, 2, 3))}
        assert all(torch.equal(value, b.layers[name]) for name, value in a.layers.items())
        assert not torch.equal(a.transform.affine, c.transform.affine)

    def test_the_streams_start_at_the_seed_one_after_the_other(self):
        """Kept for good: the order of stored curves comes from the seed, augmentation from the next one."""
        values = {"augmentation": "light", "dropout": 0.3}
        stream, seeds = self.stream(7, **values), [torch.Generator().manual_seed(7 + k) for k in range(3)]
        assert torch.equal(stream.epoch(), torch.randperm(100, generator=seeds[0]))
        step = stream.step(8)
        assert torch.equal(step.transform.affine, draw("light", 8, (12, 10), Legal(), seeds[1]).affine)
        layer = random_layers(tiny_model(**values))["head.0.mask"]
        assert torch.equal(step.layers["head.0.mask"], layer.draw(8, seeds[2]))

    @pytest.mark.parametrize("off", ["augmentation", "mixing", "dropout"])
    def test_no_decision_depends_on_what_another_one_draws(self, off):
        values = {name: value for name, value in self.EVERYTHING.items() if name not in (off, "stochastic_norm")}
        full = {name: value for name, value in self.EVERYTHING.items() if name != "stochastic_norm"}
        some, all_ = self.stream(**values), self.stream(**full)
        for _ in range(3):
            assert torch.equal(some.epoch(), all_.epoch())
            a, b = some.step(8), all_.step(8)
            if off != "augmentation":
                assert torch.equal(a.transform.affine, b.transform.affine)
            if off != "mixing":
                assert (a.mix.share, a.mix.partner.tolist()) == (b.mix.share, b.mix.partner.tolist())
            if off != "dropout":
                assert torch.equal(a.layers["head.0.mask"], b.layers["head.0.mask"])

    def test_the_default_recipe_decides_on_the_order_alone(self):
        step = self.stream().step(8)
        assert (step.transform, step.mix, step.layers) == (None, None, {})


def test_balanced_sampling_in_a_trial_changes_the_curve():
    data = tiny_data()
    result = tiny_trial(data, class_balance="sampling")
    assert result.error is None
    assert curve(result)[-1] != curve(tiny_trial(data))[-1]
