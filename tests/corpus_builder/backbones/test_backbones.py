"""Every registered backbone is what its spec says; the registry drives the tests."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save, save_file

from corpus_builder.backbones import backbone_names, backbone_spec
from corpus_builder.backbones.describe import backbone_row, listing
from corpus_builder.backbones.weights import build
from corpus_builder.backbones.work import forward_work
from metaquery.errors import InvalidData, InvalidInput, UnknownName

SIDES = {2: 32, 3: 16}
ODD = {2: (33, 37), 3: (17, 18, 21)}
ATTENTIVE = ("vit", "sam_med3d")  # families whose cost has a term in the square of the number of tokens
DEEP = 5_000_000  # parameters from which on only two ways to freeze are tried
# Names that differ in their weights files only stand for one net.
NETS = list({(backbone_spec(name).family, backbone_spec(name).parameters): name for name in backbone_names()}.values())
PRETRAINED = [name for name in backbone_names() if backbone_spec(name).weights is not None]
PUBLISHED = [
    name for name in PRETRAINED if backbone_spec(name).weights.sha256 and not backbone_spec(name).weights.adapt
]


def net(name):
    torch.manual_seed(0)
    return backbone_spec(name).build()


def batch(spec, n=3, size=None):
    size = size or (max(SIDES[spec.n_dims], spec.min_size),) * spec.n_dims
    return torch.randn(n, spec.in_channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=NETS)
def made(request):
    """A spec and its backbone, built once for all tests that ask for it."""
    return backbone_spec(request.param), net(request.param)


def test_a_backbone_is_what_its_spec_says(made):
    spec, backbone = made
    assert sum(p.numel() for p in backbone.parameters()) == spec.parameters
    assert backbone.feature_dim == spec.feature_dim
    features = backbone.train()(batch(spec))
    assert features.shape == (3, spec.feature_dim)
    features.sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())
    backbone.zero_grad()
    architecture, _, weights = spec.name.partition(".")
    assert architecture
    assert (weights == "scratch") == (spec.weights is None)
    assert architecture.endswith("_3d") <= (spec.n_dims == 3)
    assert spec.input_size is None or len(spec.input_size) == spec.n_dims


def test_a_backbone_takes_every_size_from_its_smallest_on(made):
    spec, backbone = made
    backbone.eval()
    with torch.no_grad():
        for size in ((spec.min_size,) * spec.n_dims, ODD[spec.n_dims]):
            features = backbone(batch(spec, 2, size))
            assert features.shape == (2, spec.feature_dim), size
            assert torch.isfinite(features).all(), size


def test_a_backbone_is_drawn_copied_and_stored_without_loss(made):
    spec, backbone = made
    state = backbone.state_dict()
    if spec.parameters < DEEP:  # the big ones are drawn by the same code
        again = net(spec.name)
        assert all(torch.equal(t, state[key]) for key, t in again.named_parameters())
    backbone.eval()
    x = batch(spec, 2)
    copied = copy.deepcopy(backbone)
    with torch.no_grad():
        expected = backbone(x)
        assert torch.equal(copied(x), expected)
        for parameter in copied.parameters():
            parameter.zero_()
        copied.load_state_dict(load(save({key: t.contiguous() for key, t in state.items()})))
        assert torch.equal(copied(x), expected)


def test_freezing_fixes_the_first_stages_and_nothing_else(made):
    spec, backbone = made
    stages = list(backbone.stages)
    cuts = range(len(stages) + 1) if spec.parameters < DEEP else (len(stages) // 2, len(stages))
    for n_frozen in cuts:  # upwards: what is frozen stays frozen
        backbone.freeze(n_frozen / len(stages))
        backbone.train().zero_grad()
        before = {key: value.clone() for key, value in backbone.named_buffers()}
        features = backbone(batch(spec).requires_grad_())
        assert features.requires_grad == (n_frozen < len(stages))
        if features.requires_grad:
            features.square().mean().backward()
        moved = {key for key, value in backbone.named_buffers() if not torch.equal(value, before[key])}
        learns = {key for key, p in backbone.named_parameters() if p.grad is not None and p.grad.any()}
        for number, stage in enumerate(stages):
            changed = [key for key in moved | learns if key.startswith(f"stages.{stage}.")]
            if number < n_frozen:
                assert not changed, f"stage {stage} is frozen but {changed} changed"
            else:
                assert changed, f"stage {stage} is free but nothing changed"


@pytest.mark.parametrize("name", NETS)
def test_flops_are_counted_at_the_input_shape(name):
    # On the meta device size costs nothing. Twice the side is k = four or eight times the positions, at sides so large
    # that what the borders of an unpadded convolution add or take away does not show; whole patches and windows.
    spec = backbone_spec(name)
    k = 2**spec.n_dims
    attentive = spec.family in ATTENTIVE
    sides = (448, 896, 1792) if attentive else (1792, 3584)
    rows = [backbone_row(name, (side,) * spec.n_dims) for side in sides]
    assert rows[0]["input_shape"] == [spec.in_channels, *(sides[0],) * spec.n_dims]
    flops = [row["flops"] for row in rows]
    if attentive:  # a n + b n^2
        b = (flops[1] - k * flops[0]) / (k**2 - k)
        assert b > 0
        assert flops[2] == pytest.approx(k**2 * (flops[0] - b) + k**4 * b, rel=0.01)
    else:
        assert flops[1] / flops[0] == pytest.approx(k, rel=0.01)


def test_flops_of_a_net_small_enough_to_count_by_hand():
    # Three 3 x 3 convolutions of 1-8-16-32 channels at 16, 8 and 4 pixels a side, two operations a multiply-add.
    expected = 2 * 9 * (1 * 8 * 16**2 + 8 * 16 * 8**2 + 16 * 32 * 4**2)
    assert backbone_row("tiny_2d.scratch", (16, 16))["flops"] == expected
    # A convolution, BatchNorm (with two values a channel), ReLU and pooling (values and places) a stage, and the mean.
    written = [3 * width * n + 2 * width + 2 * width * n // 4 for width, n in ((8, 256), (16, 64), (32, 16))]
    work = forward_work(backbone_spec("tiny_2d.scratch"), (16, 16))[1]
    assert work == (expected, sum(written) + 32, 3 * 4 + 1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_weights_give_the_published_features(name, weights_root):
    spec = backbone_spec(name)
    reference = np.load(weights_root / "reference_features.npz")
    backbone = build(spec, weights_root).eval()
    with torch.no_grad():
        features = backbone(torch.from_numpy(reference[f"input_{spec.n_dims}d"])).numpy()
    expected = reference[spec.weights.file.split("/")[0]]
    assert np.abs(features - expected).max() <= 1e-3 * np.abs(expected).max()


def test_an_unknown_backbone_is_refused_with_the_closest_names():
    with pytest.raises(UnknownName, match=r"resnet18\.scratch"):
        backbone_spec("resnet18.scrach")


class TestDamagedWeights:
    """A file that is not the published one never gets into a model."""

    NAME = "shufflenetv2_x0_5.imagenet"

    def spec_for(self, path: Path):
        import hashlib

        spec = backbone_spec(self.NAME)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return dataclasses.replace(spec, weights=dataclasses.replace(spec.weights, file=path.name, sha256=sha256))

    def test_no_root(self):
        with pytest.raises(InvalidInput, match="MEDCURVES_WEIGHTS"):
            build(backbone_spec(self.NAME), None)

    def test_missing_file(self, tmp_path):
        with pytest.raises(InvalidInput, match=r"not found: expected .*safetensors"):
            build(backbone_spec(self.NAME), tmp_path)

    def test_another_file_under_its_name(self, tmp_path):
        path = tmp_path / backbone_spec(self.NAME).weights.file
        path.parent.mkdir()
        path.write_bytes(b"not the published file")
        with pytest.raises(InvalidData, match="SHA-256 differs"):
            build(backbone_spec(self.NAME), tmp_path)

    def test_a_pickle(self, tmp_path):
        path = tmp_path / "weights.safetensors"
        path.write_bytes(pickle.dumps({"first_conv.0.weight": [1.0]}))
        with pytest.raises(InvalidData, match="cannot be read as safetensors"):
            build(self.spec_for(path), tmp_path)

    def test_missing_and_unknown_keys(self, tmp_path):
        state = backbone_spec(self.NAME).build().state_dict()
        tensors = {key.removeprefix("stages.").replace("stem.0.", "first_conv."): t for key, t in state.items()}
        tensors["stage9.weight"] = tensors.pop("stage2.0.branch_main.0.weight")
        path = tmp_path / "weights.safetensors"
        save_file(tensors, path)
        with pytest.raises(
            InvalidData, match=r"missing \['stages.stage2.0.branch_main.0.weight'\].*unknown \['stages.stage9"
        ):
            build(self.spec_for(path), tmp_path)


def test_the_listing_says_which_weights_are_present(tmp_path):
    rows = {row["backbone"]: row["weights present"] for row in listing(tmp_path)}
    assert set(backbone_names()) <= set(rows)
    assert rows["resnet18.scratch"] == "-"
    assert {rows[name] for name in PRETRAINED} == {"no"}
