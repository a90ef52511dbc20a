"""Medical 3-D nets from a user's own file: published layouts, published arithmetic, and files that are not safe."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from torch import nn

from corpus_builder.backbones import backbone_spec, sam_med3d
from corpus_builder.backbones.describe import backbone_row, listing
from corpus_builder.backbones.weights import build, file_sha256
from metaquery.errors import InvalidData, InvalidInput


def write(path, shapes, entry, prefix=""):
    """A checkpoint of `shapes` in which every tensor has a value of its own; returns the values by key."""
    values = {key: 0.001 * number for number, key in enumerate(shapes, start=1)}
    state = {prefix + key: torch.tensor(values[key]).expand(shape) for key, shape in shapes.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 3, entry: state}, path)
    return values


def norm(name, channels):
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{kind}": (channels,) for kind in kinds} | {f"{name}.num_batches_tracked": ()}


def medicalnet_layout(depth):
    """Keys and shapes of the published checkpoint, from the published code: its options and the keys it gives."""
    blocks = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]
    expansion = 4 if depth == 50 else 1
    shapes = {"conv1.weight": (64, 1, 7, 7, 7)} | norm("bn1", 64)
    c_in = 64
    for layer, (count, width) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), start=1):
        for number in range(count):
            name = f"layer{layer}.{number}"
            kernels = ((1, width), (3, width), (1, 4 * width)) if depth == 50 else ((3, width), (3, width))
            c = c_in
            for k, (side, c_out) in enumerate(kernels, start=1):
                shapes |= {f"{name}.conv{k}.weight": (c_out, c, side, side, side)} | norm(f"{name}.bn{k}", c_out)
                c = c_out
            if number == 0 and (layer > 1 or depth == 50) and depth != 18:
                shapes |= {f"{name}.downsample.0.weight": (width * expansion, c_in, 1, 1, 1)}
                shapes |= norm(f"{name}.downsample.1", width * expansion)
            c_in = width * expansion
    return shapes


@pytest.mark.parametrize("depth", [10, 18, 50])
def test_medicalnet_takes_the_published_layout(depth, tmp_path):
    spec = backbone_spec(f"resnet{depth}_3d.medicalnet")
    decoder = {"conv_seg.0.weight": (8, 32, 2, 2, 2)}
    values = write(tmp_path / spec.weights.file, medicalnet_layout(depth) | decoder, "state_dict", "module.")
    backbone = build(spec, tmp_path)
    stem = {"conv1": "stages.stem.0", "bn1": "stages.stem.1"}
    own = backbone.state_dict()
    for key, value in values.items():
        part, _, rest = key.partition(".")
        if part != "conv_seg" and not key.endswith("num_batches_tracked"):
            tensor = own[f"{stem[part]}.{rest}" if part in stem else f"stages.{key}"]
            assert tensor.eq(torch.tensor(value)).all(), key


def test_medicalnet_is_dilated_where_other_resnets_are_strided():
    backbone = backbone_spec("resnet18_3d.medicalnet").build().eval()
    x = torch.randn(1, 1, 32, 32, 32)
    sides = {}
    with torch.no_grad():
        for name, stage in backbone.stages.items():
            x = stage(x)
            sides[name] = x.shape[-1]
    assert sides == {"stem": 8, "layer1": 8, "layer2": 4, "layer3": 4, "layer4": 4}
    dilations = {
        name: {m.dilation[0] for m in stage.modules() if isinstance(m, nn.Conv3d)}
        for name, stage in backbone.stages.items()
    }
    assert dilations == {"stem": {1}, "layer1": {1}, "layer2": {1}, "layer3": {2}, "layer4": {4}}
    y = torch.randn(1, 64, 4, 4, 4)
    shortcut = backbone.stages["layer2"][0].downsample(y)
    assert torch.equal(shortcut[:, :64], y[:, :, ::2, ::2, ::2])
    assert shortcut.shape == (1, 128, 2, 2, 2)
    assert not shortcut[:, 64:].any()


def sam_layout():
    shapes = {"pos_embed": (1, 8, 8, 8, 768), "patch_embed.proj.weight": (768, 1, 16, 16, 16)}
    shapes |= {"patch_embed.proj.bias": (768,)}
    linears = {"attn.qkv": (2304, 768), "attn.proj": (768, 768), "mlp.lin1": (3072, 768), "mlp.lin2": (768, 3072)}
    for number in range(12):
        block = {f"norm{k}.{kind}": (768,) for k in (1, 2) for kind in ("weight", "bias")}
        for name, shape in linears.items():
            block |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        length = 15 if number in (2, 5, 8, 11) else 27
        block |= {f"attn.rel_pos_{axis}": (length, 64) for axis in "dhw"}
        shapes |= {f"blocks.{number}.{key}": shape for key, shape in block.items()}
    shapes |= {"neck.0.weight": (384, 768, 1, 1, 1), "neck.2.weight": (384, 384, 3, 3, 3)}
    shapes |= {f"neck.{k}.{kind}": (384,) for k in (1, 3) for kind in ("weight", "bias")}
    return {f"image_encoder.{key}": shape for key, shape in shapes.items()}


def test_sam_med3d_takes_the_published_layout(tmp_path):
    spec = backbone_spec("sam_vit_b_3d.sam_med3d_turbo")
    others = {
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (3, 192),
        "mask_decoder.iou_token.weight": (1, 384),
    }
    values = write(tmp_path / spec.weights.file, sam_layout() | others, "model_state_dict")
    own = build(spec, tmp_path).state_dict()
    places = {
        "patch_embed.proj.weight": "stages.patches.proj.weight",
        "pos_embed": "stages.patches.pos_embed",
        "blocks.0.attn.rel_pos_w": "stages.blocks1.0.attn.rel_pos_w",
        "blocks.11.mlp.lin2.bias": "stages.blocks4.2.mlp.lin2.bias",
        "neck.3.bias": "stages.neck.3.bias",
    }
    for key, place in places.items():
        assert own[place].eq(torch.tensor(values[f"image_encoder.{key}"])).all(), key
    assert len(own) == len(sam_layout())


class TestSamArithmetic:
    """The encoder against the published computation, written out, at a size where that is quick."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        for name, value in {"_DIM": 8, "_HEADS": 2, "_OUT": 4, "_PATCH": 2, "_GRID": 3, "_WINDOW": 4}.items():
            monkeypatch.setattr(sam_med3d, name, value)
        torch.manual_seed(0)

    def drawn(self, module):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.5)
        return module.eval()

    def published(self, attention, x, side, tables):
        """One cube (side, side, side, dim), query by query and key by key."""
        heads, size = 2, 4
        q, k, v = attention.qkv(x).view(*(side,) * 3, 3, heads, size).unbind(3)
        far = side - 1
        cells = [(d, h, w) for d in range(side) for h in range(side) for w in range(side)]
        out = torch.zeros(*(side,) * 3, heads * size)
        for head in range(heads):
            for d, h, w in cells:
                logits = torch.stack(
                    [
                        q[d, h, w, head] @ k[kd, kh, kw, head] * size**-0.5
                        + q[d, h, w, head] @ tables["d"][d - kw + far]
                        + q[d, h, kd, head] @ tables["h"][h - kw + far]
                        + q[d, h, kh, head] @ tables["w"][kh - kw + far]
                        for kd, kh, kw in cells
                    ]
                )
                values = torch.stack([v[cell][head] for cell in cells])
                out[d, h, w, head * size : (head + 1) * size] = logits.softmax(0) @ values
        return attention.proj(out)

    def tables(self, attention):
        return {axis: getattr(attention, f"rel_pos_{axis}") for axis in "dhw"}

    def test_attention(self):
        attention = self.drawn(sam_med3d._Attention(3))
        x = torch.randn(2, 3, 3, 3, 8)
        with torch.no_grad():
            expected = torch.stack([self.published(attention, cube, 3, self.tables(attention)) for cube in x])
            assert torch.allclose(attention(x), expected, atol=1e-5)

    def test_windows_reach_beyond_the_trained_grid_and_are_padded_with_zeros(self):
        block = self.drawn(sam_med3d._Block(windows=True))
        x = torch.randn(1, 3, 3, 3, 8)
        padded = torch.zeros(4, 4, 4, 8)
        padded[:3, :3, :3] = x[0]
        with torch.no_grad():
            expected = self.published(block.attn, padded, 4, self.tables(block.attn))[:3, :3, :3]
            assert torch.allclose(block._in_windows(x)[0], expected, atol=1e-5)

    def test_a_large_grid_is_cut_into_windows(self):
        block = self.drawn(sam_med3d._Block(windows=True))
        x = torch.randn(1, 6, 6, 6, 8)
        padded = torch.zeros(1, 8, 8, 8, 8)
        padded[:, :6, :6, :6] = x
        with torch.no_grad():
            found = block._in_windows(x)
            corner = block.attn(padded[:, 4:, :4, 4:])[:, :2, :, :2]
            assert torch.allclose(found[:, 4:, :4, 4:], corner, atol=1e-5)

    def test_a_small_grid_has_small_windows_with_interpolated_positions(self):
        block = self.drawn(sam_med3d._Block(windows=True))
        x = torch.randn(1, 1, 1, 1, 8)  # a third of the trained side: windows of ceil(4 / 3)
        padded = torch.zeros(2, 2, 2, 8)
        padded[0, 0, 0] = x
        tables = {
            axis: nn.functional.interpolate(t.T[None], size=3, mode="linear")[0].T
            for axis, t in self.tables(block.attn).items()
        }
        with torch.no_grad():
            expected = self.published(block.attn, padded, 2, tables)[0, 0, 0]
            assert torch.allclose(block._in_windows(x)[0, 0, 0, 0], expected, atol=1e-5)

    def test_volumes_become_cubes_and_positions_follow_their_grid(self):
        patches = self.drawn(sam_med3d._Patches())
        x = torch.randn(1, 1, 3, 6, 5)
        cube = torch.zeros(1, 1, 6, 6, 6)
        cube[:, :, :3, :, :5] = x
        with torch.no_grad():
            assert torch.allclose(patches(x), torch.movedim(patches.proj(cube), 1, -1) + patches.pos_embed)
            far = patches(torch.zeros(1, 1, 12, 12, 12)) - patches.proj.bias
        positions = nn.functional.interpolate(torch.movedim(patches.pos_embed, -1, 1), size=6, mode="trilinear")
        assert torch.allclose(far, torch.movedim(positions, 1, -1), atol=1e-6)


class Exploit:
    """Unpickling this makes a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class TestUnsafeFiles:
    SPEC = backbone_spec("resnet10_3d.medicalnet")

    def refused(self, tmp_path, match):
        with pytest.raises(InvalidData, match=match) as caught:
            build(self.SPEC, tmp_path)
        assert "\n" not in str(caught.value)

    def path(self, tmp_path):
        path = tmp_path / self.SPEC.weights.file
        path.parent.mkdir()
        return path

    @pytest.mark.parametrize("form", ["pickle", "torch", "old torch"])
    def test_a_file_that_would_run_code_is_refused_and_runs_none(self, form, tmp_path):
        trap = tmp_path / "trap"
        path = self.path(tmp_path)
        if form == "pickle":
            path.write_bytes(pickle.dumps({"state_dict": Exploit(trap)}))
        else:
            torch.save({"state_dict": Exploit(trap)}, path, _use_new_zipfile_serialization=form == "torch")
        self.refused(tmp_path, "was refused: expected a torch file of tensors only")
        assert not trap.exists()
        with path.open("rb") as stream:  # the trap works: a plain load springs it
            pickle.load(stream) if form == "pickle" else torch.load(stream, weights_only=False)
        assert trap.exists()

    @pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04nonsense"])
    def test_a_damaged_file(self, content, tmp_path):
        self.path(tmp_path).write_bytes(content)
        self.refused(tmp_path, "was refused: expected a torch file of tensors only")

    @pytest.mark.parametrize("content", [[torch.ones(1)], {}, {"state_dict": {"a": 1.0}}])
    def test_a_file_without_a_state_dict(self, content, tmp_path):
        torch.save(content, self.path(tmp_path))
        self.refused(tmp_path, "holds no state dict")

    def test_other_keys_and_other_shapes(self, tmp_path):
        path = self.path(tmp_path)
        layout = medicalnet_layout(10)
        write(path, {"conv9.weight": (1,)} | layout, "state_dict")
        self.refused(tmp_path, r"unknown \['stages.conv9.weight'\]")
        write(path, {**layout, "conv1.weight": (64, 3, 7, 7, 7)}, "state_dict")
        self.refused(tmp_path, r"stages.stem.0.weight is \[64, 3, 7, 7, 7\], expected \[64, 1, 7, 7, 7\]")


def test_weights_without_a_published_hash_are_recorded_by_their_own(tmp_path):
    spec = backbone_spec("resnet10_3d.medicalnet")
    row = {r["backbone"]: r for r in listing(tmp_path)}[spec.name]
    assert row["weights present"] == "no"
    assert backbone_row(spec.name, (16, 16, 16))["weights_sha256"] is None
    with pytest.raises(InvalidInput, match=r"not found: expected .*resnet_10_23dataset\.pth"):
        backbone_row(spec.name, (16, 16, 16), tmp_path)
    write(tmp_path / spec.weights.file, medicalnet_layout(10), "state_dict")
    found = backbone_row(spec.name, (16, 16, 16), tmp_path)["weights_sha256"]
    assert found == file_sha256(tmp_path / spec.weights.file)
    assert len(found) == 64
