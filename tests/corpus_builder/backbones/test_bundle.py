"""Encoders of MONAI bundles, against what MONAI's own networks compute; and configurations that try to run code."""

from __future__ import annotations

import json
import os

import pytest
import torch

from corpus_builder.backbones import backbone_spec
from corpus_builder.backbones.describe import backbone_row
from corpus_builder.backbones.weights import build
from metaquery.errors import InvalidData, InvalidInput

SEGRESNET = {"_target_": "SegResNet", "init_filters": 8, "in_channels": 4, "out_channels": 3, "dropout_prob": 0.2}
NO_CLASSES = {"spatial_dims": 2, "in_channels": 3, "num_classes": 2}


def hooked(module):
    """What `module` gives while the network runs."""

    def run(net, x):
        seen = []
        handle = module(net).register_forward_hook(lambda _module, _input, output: seen.append(output))
        net(x)
        handle.remove()
        return seen[0]

    return run


def bottom(net):
    level = net.model
    while type(level[1]).__name__ == "SkipConnection":
        level = level[1].submodule
        if not isinstance(level, torch.nn.Sequential) or len(level) != 3:
            break
    return level


# The definition of a network, its input, and the map that its encoder gives, by the network's own means.
NETWORKS = {
    "segresnet": (SEGRESNET, (4, 16, 16, 16), lambda net, x: net.encode(x)[0]),
    "segresnet_ds": (
        {"_target_": "SegResNetDS", "init_filters": 8, "blocks_down": [1, 2, 2], "spatial_dims": 2},
        (1, 32, 32),
        lambda net, x: net.encoder(x)[-1],
    ),
    "swin_unetr": (
        {"_target_": "SwinUNETR", "img_size": 96, "in_channels": 1, "out_channels": 2, "feature_size": 12},
        (1, 32, 32, 32),
        lambda net, x: net.swinViT(x)[4],
    ),
    "swin_unetr_v2": (
        {
            "_target_": "SwinUNETR",
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 2,
            "feature_size": 12,
            "use_v2": True,
        },
        (1, 64, 64),
        lambda net, x: net.swinViT(x)[4],
    ),
    "densenet": (
        {"_target_": "DenseNet121", "spatial_dims": 2, "in_channels": 1, "out_channels": 3},
        (1, 64, 64),
        lambda net, x: net.class_layers.relu(net.features(x)),
    ),
    "resnet": (
        {
            "_target_": "monai.networks.nets.ResNet",
            "block": "basic",
            "layers": [1, 1, 1, 1],
            "block_inplanes": [8, 16, 32, 64],
            "n_input_channels": 2,
        },
        (2, 16, 16, 16),
        hooked(lambda net: net.layer4),
    ),
    "senet": ({"_target_": "SEResNet50", **NO_CLASSES}, (3, 64, 64), lambda net, x: net.features(x)),
    "efficientnet": (
        {"_target_": "EfficientNetBN", "model_name": "efficientnet-b0", **NO_CLASSES},
        (3, 64, 64),
        lambda net, x: torch.nn.functional.silu(hooked(lambda n: n._bn1)(net, x)),
    ),
    "unet": (
        {
            "_target_": "monai.networks.nets.unet.UNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 2,
            "channels": [4, 8, 16],
            "strides": [2, 2],
            "num_res_units": 2,
            "norm": "batch",
        },
        (1, 16, 16, 16),
        hooked(bottom),
    ),
    "basic_unet": (
        {"_target_": "BasicUNet", "spatial_dims": 2, "features": [8, 8, 16, 16, 32, 8]},
        (1, 64, 64),
        hooked(lambda net: net.down_4),
    ),
    "dynunet": (
        {
            "_target_": "DynUNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 2,
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [8, 16, 16],
        },
        (1, 16, 16, 16),
        hooked(lambda net: net.bottleneck),
    ),
    "vit": (
        {
            "_target_": "ViT",
            "in_channels": 1,
            "img_size": [32, 32],
            "patch_size": 8,
            "hidden_size": 24,
            "mlp_dim": 48,
            "num_layers": 6,
            "num_heads": 2,
            "spatial_dims": 2,
            "classification": False,
        },
        (1, 32, 32),
        lambda net, x: net(x)[0].transpose(1, 2),
    ),
    "unetr": (
        {
            "_target_": "UNETR",
            "in_channels": 1,
            "out_channels": 2,
            "img_size": 32,
            "feature_size": 4,
            "hidden_size": 24,
            "mlp_dim": 48,
            "num_heads": 2,
        },
        (1, 32, 32, 32),
        lambda net, x: net.vit(x)[0].transpose(1, 2),
    ),
}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDCURVES_WEIGHTS", str(tmp_path))
    return tmp_path


def network(definition):
    from monai.networks import nets

    arguments = {key: value for key, value in definition.items() if key not in ("_target_", "img_size")}
    if "ViT" in definition["_target_"] or definition["_target_"] == "UNETR":
        arguments["img_size"] = definition["img_size"]
    if definition["_target_"] == "EfficientNetBN":
        arguments["pretrained"] = False
    torch.manual_seed(3)
    net = getattr(nets, definition["_target_"].rpartition(".")[2])(**arguments).eval()
    for name, buffer in net.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return net


def write_bundle(root, definition, name="zoo/net", net=None, **config):
    folder = root / name
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    config = {"imports": ["$import os"], "network_def": definition, "network": "$@network_def.to(@device)", **config}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "0.3.0", "task": "Tumour segmentation"}))
    if net is not None:
        torch.save(net.state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_encoder_gives_what_the_network_computes(kind, root):
    definition, shape, encoder_of = NETWORKS[kind]
    net = network(definition)
    write_bundle(root, definition, net=net)
    spec = backbone_spec("bundle:zoo/net")
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(4))
    backbone = build(spec, root).eval()
    with torch.no_grad():
        expected = encoder_of(net, x).flatten(2).mean(2)
        features = backbone(x)
    assert torch.allclose(features, expected, atol=1e-5, rtol=1e-4)
    assert (spec.n_dims, spec.in_channels, spec.feature_dim) == (len(shape) - 1, shape[0], features.shape[1])
    assert spec.parameters == sum(p.numel() for p in backbone.parameters())
    with torch.no_grad():
        assert torch.isfinite(backbone(torch.randn(2, shape[0], *(spec.min_size,) * spec.n_dims))).all()


def test_a_bundle_is_described_by_its_metadata_and_its_file(root):
    write_bundle(root, SEGRESNET, net=network(SEGRESNET))
    row = backbone_row("bundle:zoo/net", (32, 32, 32), root)
    assert row["pretrained_on"] == "Tumour segmentation"
    assert row["source"] == "MONAI bundle zoo/net 0.3.0"
    assert len(row["weights_sha256"]) == 64
    assert row["flops"] > 0


def test_references_to_plain_values_are_followed(root):
    definition = {**SEGRESNET, "in_channels": "@channels", "blocks_down": "@blocks::down"}
    write_bundle(root, definition, channels="@really", really=2, blocks={"down": [1, 1]})
    spec = backbone_spec("bundle:zoo/net")
    assert (spec.in_channels, spec.feature_dim) == (2, 16)


def test_a_changed_bundle_is_read_again(root):
    config = write_bundle(root, SEGRESNET) / "configs" / "inference.json"
    assert backbone_spec("bundle:zoo/net").in_channels == 4
    write_bundle(root, {**SEGRESNET, "in_channels": 1})
    os.utime(config, ns=(1, config.stat().st_mtime_ns + 1_000_000_000))
    assert backbone_spec("bundle:zoo/net").in_channels == 1


def test_weights_of_another_network_are_refused(root):
    write_bundle(root, SEGRESNET, net=network({**SEGRESNET, "blocks_down": [1, 2, 2, 5]}))
    with pytest.raises(InvalidData, match=r"unknown \['down_layers\.3\.5"):
        build(backbone_spec("bundle:zoo/net"), root)


class TestRefusals:
    def refused(self, root, definition, match, **config):
        write_bundle(root, definition, **config)
        with pytest.raises(InvalidInput, match=match) as caught:
            backbone_spec("bundle:zoo/net")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("value", ["$open('trap', 'w')", "%other.json::key", "@trap", ["$1"], {"a": "$1"}])
    def test_nothing_is_evaluated(self, value, root, monkeypatch):
        monkeypatch.chdir(root)
        self.refused(root, {**SEGRESNET, "init_filters": value}, "expected plain values", trap="$open('trap', 'w')")
        assert not (root / "trap").exists()

    @pytest.mark.parametrize("target", ["os.system", "monai.apps.download_url", "torch.nn.Linear", "$SegResNet", "", 3])
    def test_only_networks_of_monai_are_built(self, target, root):
        self.refused(root, {**SEGRESNET, "_target_": target}, "_target_")

    @pytest.mark.parametrize("target", ["AutoEncoder", "resnet18", "NoSuchNet"])
    def test_networks_without_a_known_encoder_are_refused_with_the_list(self, target, root):
        self.refused(root, {"_target_": target}, "encoder of .* is not known: expected one of BasicUNet, DenseNet")

    @pytest.mark.parametrize("key", ["_requires_", "_mode_", "_disabled_"])
    def test_instructions_to_the_parser_are_refused(self, key, root):
        self.refused(root, {**SEGRESNET, key: "x"}, f"{key} was refused")

    def test_a_target_within_an_argument_is_refused(self, root):
        self.refused(root, {**SEGRESNET, "act": {"_target_": "os.system", "command": "true"}}, "_target_ was refused")

    def test_references_in_a_circle_and_to_nothing(self, root):
        self.refused(root, {**SEGRESNET, "init_filters": "@a"}, "expected plain values", a="@b", b="@a")
        self.refused(root, {**SEGRESNET, "init_filters": "@gone"}, "something that is there")

    def test_arguments_that_the_class_does_not_take(self, root):
        self.refused(root, {**SEGRESNET, "no_such": 1}, "cannot be built from network_def: .*no_such")

    def test_patches_that_are_not_cubes(self, root):
        definition = {**NETWORKS["vit"][0], "patch_size": [8, 4]}
        self.refused(root, definition, "expected a convolution over patches")

    @pytest.mark.parametrize("name", ["bundle:", "bundle:/etc", "bundle:../net", "bundle:a/../../net"])
    def test_paths_that_leave_the_weights_root(self, name):
        with pytest.raises(InvalidInput, match="below the weights root"):
            backbone_spec(name)

    def test_no_bundle_and_no_root(self, root, monkeypatch):
        with pytest.raises(InvalidInput, match="is not a MONAI bundle"):
            backbone_spec("bundle:zoo/net")
        folder = write_bundle(root, SEGRESNET)
        (folder / "configs" / "inference.json").write_text("{")
        with pytest.raises(InvalidInput, match="cannot read"):
            backbone_spec("bundle:zoo/net")
        monkeypatch.delenv("MEDCURVES_WEIGHTS")
        with pytest.raises(InvalidInput, match="set MEDCURVES_WEIGHTS"):
            backbone_spec("bundle:zoo/net")
