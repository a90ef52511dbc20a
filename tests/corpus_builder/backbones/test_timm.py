"""timm's models as backbones: names, sizes, stages, weights, and the portfolio of Quick-Tune."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from corpus_builder.backbones import backbone_spec
from corpus_builder.backbones.describe import backbone_row
from corpus_builder.backbones.portfolios import QUICKTUNE, expand_portfolios, members
from corpus_builder.backbones.sizes import check_size
from corpus_builder.backbones.timm_models import import_timm, resolve
from corpus_builder.backbones.weights import build, verify
from corpus_builder.execute import RunDirectory
from corpus_builder.plan import make_plan
from corpus_builder.recipe import to_input
from corpus_builder.space import search_space
from corpus_builder.study import Study
from corpus_builder.train.records import Part, TrialData, TrialSpec
from corpus_builder.train.trial import run_trial
from metaquery.errors import InvalidData, InvalidInput, UnknownName

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")

SMALLEST = (
    "timm:dla46x_c.in1k",
    "timm:edgenext_xx_small.in1k",
    "timm:mobilevit_xxs.cvnets_in1k",
    "timm:xcit_nano_12_p8_384.fb_dist_in1k",
)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def publish(name, root, seed=0):
    """Write a weights file of the layout that is published for `name`; returns timm's own net with these weights."""
    timm = import_timm()
    torch.manual_seed(seed)
    net = timm.create_model(name.removeprefix("timm:"))
    path = root / backbone_spec(name).weights.file
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in net.state_dict().items()}, path)
    return net.eval()


@pytest.mark.parametrize("name", members("quicktune"))
def test_the_portfolio_of_quicktune_builds_and_freezes(name):
    spec = backbone_spec(name)
    assert spec.weights is not None
    assert spec.name == name
    with torch.device("meta"):
        backbone = spec.build()
    assert backbone.feature_dim == spec.feature_dim
    assert not backbone.cuttable
    everything = {id(p) for p in backbone.parameters()}
    stages = [[id(p) for p in stage.parameters()] for stage in backbone.stages.values()]
    assert len(stages) >= 5
    assert sorted(p for stage in stages for p in stage) == sorted(everything)
    assert sum(p.numel() for p in backbone.parameters()) == spec.parameters

    backbone.train()
    backbone.freeze(0.5)
    frozen = {p for stage in stages[: round(0.5 * len(stages))] for p in stage}
    assert {id(p) for p in backbone.parameters() if not p.requires_grad} == frozen
    for module in backbone.modules():
        own = {id(p) for p in module.parameters(recurse=False)}
        if own and isinstance(module, NORMS):
            assert module.training == (not own <= frozen)


def test_the_portfolio_has_the_models_of_the_paper_under_their_names_of_today():
    timm = import_timm()
    assert len(QUICKTUNE) == len(set(QUICKTUNE.values())) == 24
    renamed = timm.models.get_deprecated_models()
    for then, now in QUICKTUNE.items():
        architecture, _, tag = now.partition(".")
        if then in renamed:
            assert renamed[then] == now
        else:  # a name without a tag means the weights that are the default
            assert (then, tag) == (architecture, timm.models.get_pretrained_cfg(then).tag)


@pytest.mark.parametrize("name", SMALLEST)
def test_a_frozen_half_stays_as_it_is_and_the_rest_learns(name):
    torch.manual_seed(0)
    backbone = backbone_spec(name).build_for((32, 32))
    backbone.freeze(0.5)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    features = backbone(torch.randn(3, 3, 32, 32))
    assert features.shape == (3, backbone.feature_dim)
    features.square().mean().backward()
    free = {key for key, p in backbone.named_parameters() if p.requires_grad}
    assert free
    assert {key for key, p in backbone.named_parameters() if p.grad is not None} == free
    with torch.no_grad():
        for p in backbone.parameters():
            if p.grad is not None:
                p.sub_(p.grad)
    changed = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    buffers = {key for key in changed if key not in dict(backbone.named_parameters())}
    frozen_modules = {key.rpartition(".")[0] for key, p in backbone.named_parameters() if not p.requires_grad}
    assert changed - buffers <= free
    assert not {key.rpartition(".")[0] for key in buffers} & frozen_modules  # running statistics

    backbone.freeze(1.0)
    assert not backbone(torch.randn(2, 3, 32, 32)).requires_grad
    assert not any(module.training for module in backbone.net.modules())


@pytest.mark.parametrize("name", ["timm:test_vit.r160_in1k", "timm:test_byobnet.r160_in1k"])
def test_published_weights_give_the_features_of_timms_own_net(name, tmp_path):
    own = publish(name, tmp_path)
    backbone = build(backbone_spec(name), tmp_path).eval()
    x = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = own.forward_head(own.forward_features(x), pre_logits=True)
        torch.testing.assert_close(backbone(x), expected)


@pytest.mark.parametrize(
    ("name", "key", "resampled"),
    [
        ("timm:test_vit.r160_in1k", "pos_embed", "resample_abs_pos_embed"),
        ("timm:volo_d1_224.sail_in1k", "pos_embed", "resample_abs_pos_embed_nhwc"),
    ],
)
def test_position_embeddings_are_resampled_to_the_size_of_the_images(name, key, resampled, tmp_path):
    timm = import_timm()
    own = publish(name, tmp_path)
    backbone = build(backbone_spec(name), tmp_path, (64, 96)).eval()
    assert backbone(torch.zeros(2, 3, 64, 96)).shape == (2, backbone.feature_dim)
    grid = {"test_vit": (4, 6), "volo_d1_224": (4, 6)}[name.removeprefix("timm:").partition(".")[0]]
    options = {"num_prefix_tokens": own.num_prefix_tokens} if resampled == "resample_abs_pos_embed" else {}
    expected = getattr(timm.layers, resampled)(own.get_parameter(key), grid, **options)
    torch.testing.assert_close(backbone.net.get_parameter(key), expected.detach())


def test_weights_of_mobilenetv2_give_timms_net_the_features_of_ours(weights_root):
    timm = import_timm()
    spec = backbone_spec("mobilenetv2_100.inat_bird")
    tensors = load_file(weights_root / spec.weights.file)
    net = timm.create_model(
        "mobilenetv2_100", pad_type="same", num_classes=len(tensors["classifier.bias"]), pretrained=False
    )
    missing, unknown = net.load_state_dict(tensors, strict=False)
    assert not unknown
    assert all(key.endswith("num_batches_tracked") for key in missing)
    x = torch.rand(2, 3, 65, 64, generator=torch.Generator().manual_seed(0)) * 255
    x = to_input(x, spec)
    with torch.no_grad():
        expected = net.eval().forward_head(net.forward_features(x), pre_logits=True)
        torch.testing.assert_close(build(spec, weights_root).eval()(x), expected, atol=1e-4, rtol=1e-4)


def test_weights_of_squeezenet_give_torchvisions_net_the_features_of_ours(weights_root):
    import_timm()
    from torchvision.models import squeezenet1_1

    spec = backbone_spec("squeezenet1_1.imagenet")
    net = squeezenet1_1()
    net.load_state_dict(load_file(weights_root / spec.weights.file))
    x = torch.randn(2, 3, 65, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net.eval().features(x).mean((2, 3))
        torch.testing.assert_close(build(spec, weights_root).eval()(x), expected, atol=1e-4, rtol=1e-4)


class TestNames:
    """Every name that is none gets one error that says what to write."""

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("timm:resnet81.a1_in1k", r"did you mean resnet18\.a1_in1k"),
            ("timm:resnet18", r"does not say which weights: .*timm:resnet18\.TAG with one of a1_in1k.*\.scratch"),
            ("timm:resnet18.a9_in1k", r"no weights called 'a9_in1k': .*a1_in1k"),
            ("timm:tf_efficientnet_b4_ns", r"called timm:tf_efficientnet_b4\.ns_jft_in1k now"),
        ],
    )
    def test_unknown(self, name, expected):
        with pytest.raises(UnknownName, match=expected):
            backbone_spec(name)

    def test_a_model_that_gives_no_features(self):
        with pytest.raises(InvalidInput, match=r"cannot be a backbone .*take another model of timm"):
            backbone_spec("timm:qwen3_vit_306m_enc.scratch")

    def test_another_prefix_is_not_ours(self):
        assert resolve("resnet18.scratch") is None

    def test_random_weights_need_no_file(self):
        spec = backbone_spec("timm:test_resnet.scratch")
        assert spec.weights is None
        assert build(spec, None, (32, 32))(torch.zeros(2, 3, 32, 32)).shape == (2, spec.feature_dim)

    def test_what_timm_knows_is_in_the_spec(self):
        spec = backbone_spec("timm:mobilevit_xxs.cvnets_in1k")
        assert spec.normalization.mean == (0.0, 0.0, 0.0)
        assert spec.input_size == (256, 256)
        assert spec.weights.licence == "cvnets-license"
        assert spec.weights.source == "huggingface:timm/mobilevit_xxs.cvnets_in1k"


class TestSizes:
    """What does not fit is refused before anything is trained."""

    @pytest.mark.parametrize(
        ("name", "size", "reason"),
        [
            ("timm:vit_base_patch32_224.scratch", (16, 16), "multiple of 32"),
            ("timm:test_vit.r160_in1k", (24, 24), "multiple of 16"),
            ("timm:cait_xxs24_224.fb_dist_in1k", (64, 64), "pos_embed.*made for 224 x 224"),
            ("timm:inception_v3.tv_in1k", (32, 32), "made for 299 x 299"),
        ],
    )
    def test_refused(self, name, size, reason):
        with pytest.raises(InvalidInput, match=f"does not take images of {size[0]} x {size[1]} .*{reason}"):
            check_size(backbone_spec(name), size)

    def test_random_weights_take_sizes_that_published_ones_do_not(self):
        check_size(backbone_spec("timm:cait_xxs24_224.scratch"), (64, 64))

    def test_trying_a_size_draws_no_random_numbers(self):
        before = torch.get_rng_state()
        check_size(backbone_spec("timm:test_vit2.r160_in1k"), (48, 48))
        assert torch.equal(torch.get_rng_state(), before)


class TestDamagedWeights:
    """One clear error for each way in which a file can be wrong."""

    NAME = "timm:test_resnet.r160_in1k"

    def path(self, root):
        path = root / backbone_spec(self.NAME).weights.file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def test_not_there(self, tmp_path):
        with pytest.raises(InvalidInput, match=r"expected .*model\.safetensors; .*backbones fetch timm:test_resnet"):
            verify(backbone_spec(self.NAME), tmp_path, (64, 64))

    def test_of_another_net(self, tmp_path):
        save_file({"conv1.weight": torch.zeros(8, 3, 3, 3)}, self.path(tmp_path))
        with pytest.raises(InvalidData, match=r"timm/test_resnet\.r160_in1k does not fit .*Missing key.*fetch"):
            verify(backbone_spec(self.NAME), tmp_path, (64, 64))

    def test_without_a_tensor(self, tmp_path):
        save_file({}, self.path(tmp_path))
        with pytest.raises(InvalidData, match="does not fit"):
            verify(backbone_spec(self.NAME), tmp_path, (64, 64))

    def test_a_pickle(self, tmp_path):
        self.path(tmp_path).write_bytes(pickle.dumps({"conv1.weight": [1.0]}))
        with pytest.raises(InvalidData, match="cannot be read as safetensors"):
            verify(backbone_spec(self.NAME), tmp_path, (64, 64))

    def test_cut_off(self, tmp_path):
        publish(self.NAME, tmp_path)
        path = self.path(tmp_path)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(InvalidData, match="cannot be read as safetensors"):
            verify(backbone_spec(self.NAME), tmp_path, (64, 64))

    def test_a_torch_file_is_taken_instead_when_it_holds_tensors_only(self, tmp_path):
        own = publish(self.NAME, tmp_path)
        self.path(tmp_path).unlink()
        other = self.path(tmp_path).with_name("pytorch_model.bin")
        torch.save(own.state_dict(), other)
        backbone = build(backbone_spec(self.NAME), tmp_path)
        assert torch.equal(backbone.net.conv1[0].weight, own.conv1[0].weight)
        torch.save({"state_dict": nn.Linear(1, 1)}, other)
        with pytest.raises(InvalidData, match="nothing else is safe to load"):
            build(backbone_spec(self.NAME), tmp_path)


def test_the_row_of_the_corpus_has_the_hash_of_the_file_and_what_was_really_built(tmp_path):
    name = "timm:test_vit.r160_in1k"
    publish(name, tmp_path)
    small, own = (backbone_row(name, (side, side), tmp_path) for side in (32, 160))
    assert len(own["weights_sha256"]) == 64
    assert own["parameters"] == backbone_spec(name).parameters
    embedding = backbone_spec(name).feature_dim
    assert own["parameters"] - small["parameters"] == (10**2 - 2**2) * embedding
    assert own["family"] == "vision_transformer"


def test_a_portfolio_is_its_backbones_once():
    names = expand_portfolios(["tiny_2d.scratch", "timm:dla46x_c.in1k", "portfolio:quicktune"])
    assert len(names) == 25
    assert names[:2] == ["tiny_2d.scratch", "timm:dla46x_c.in1k"]
    with pytest.raises(UnknownName, match="quicktune"):
        expand_portfolios(["portfolio:quicktun"])


def study(*backbones, side):
    return Study.from_document(
        {
            "name": "try",
            "version": "0",
            "datasets": ["pneumoniamnist"],
            "backbones": list(backbones),
            "image_size": {"2d": [side, side]},
            "designs": {"sobol": 2},
        }
    )


def test_a_plan_refuses_a_size_that_a_backbone_does_not_take():
    assert len(make_plan(study("timm:test_vit.scratch", side=32)).trials) == 2
    with pytest.raises(InvalidInput, match="multiple of 16"):
        make_plan(study("timm:test_vit.scratch", side=40))


def test_a_run_goes_on_with_the_weights_that_it_was_begun_with_alone(tmp_path):
    run = RunDirectory(tmp_path, make_plan(study("timm:test_vit.scratch", side=32)))
    assert run.weights() == {}
    run.record_weights({"timm:test_vit.r160_in1k": "aa"})
    run.record_weights({"timm:test_vit.r160_in1k": "aa"})
    with pytest.raises(InvalidInput, match=r"another weights file of timm:test_vit\.r160_in1k \(SHA-256 aa\)"):
        run.record_weights({"timm:test_vit.r160_in1k": "bb"})
    assert run.weights() == {"timm:test_vit.r160_in1k": "aa"}


def test_a_trial_trains_a_model_of_timm_on_grey_images(tmp_path):
    name = "timm:test_vit.r160_in1k"
    publish(name, tmp_path)
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 2
    images = rng.integers(0, 80, (48, 1, 32, 32), dtype=np.uint8) + (labels * 120).astype(np.uint8)[:, None, None, None]
    part = Part(images, labels)
    config = search_space([name]).complete({"lr": 1e-2, "batch_size": 16})
    spec = TrialSpec("d", "k", 0, config, seed=0, epochs=3)
    results = [run_trial(spec, TrialData(part, part, part, 2), torch.device("cpu"), tmp_path) for _ in range(2)]
    assert [r.error for r in results] == [None, None]
    losses = [[epoch["train_loss"] for epoch in r.epochs] for r in results]
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]


def in_a_new_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_imports_timm_before_one_of_its_models_is_asked_for():
    code = (
        "import sys, corpus_builder.study, corpus_builder.plan, corpus_builder.backbones as b\n"
        "from corpus_builder.backbones.describe import listing\n"
        "from corpus_builder.backbones.portfolios import members\n"
        "b.backbone_spec('tiny_2d.scratch').build(); members('quicktune'); listing(None)\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('timm', 'torchvision')])"
    )
    assert in_a_new_process(code).strip() == "[]"


def test_without_timm_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['timm'] = None\n"
        "from corpus_builder.backbones import backbone_spec\n"
        "from metaquery.errors import MissingExtra\n"
        "try: backbone_spec('timm:resnet18.a1_in1k')\n"
        "except MissingExtra as error: print(error)"
    )
    assert in_a_new_process(code).strip() == "timm is not installed: run  pip install 'medcurves[timm]'"
