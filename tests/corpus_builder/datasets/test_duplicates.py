"""Copies of images within and across datasets: found whatever was done to them, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import assert_one_line_error
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from corpus_builder.datasets import examine, load_card
from corpus_builder.datasets.cards import cards_root, read_front_matter
from corpus_builder.datasets.duplicates import SAME, copies_across, copies_between, sketch
from corpus_builder.datasets.formats import read
from metaquery.errors import InvalidInput, UnknownName

Images = NDArray[np.uint8]


def textured(n: int, shape: tuple[int, ...], seed: int) -> Images:
    """Smooth random images, each unlike the others."""
    fields = gaussian_filter(np.random.default_rng(seed).standard_normal((n, *shape)), (0, *(4.0 for _ in shape)))
    scale = fields.reshape(n, -1).std(axis=1).reshape(n, *(1 for _ in shape))
    return np.clip(np.rint(120 + 45 * fields / scale), 0, 255).astype(np.uint8)


def each(change: Callable[[Image.Image], Image.Image]) -> Callable[[Images], Images]:
    return lambda images: np.stack([np.asarray(change(Image.fromarray(image))) for image in images])


def as_jpeg(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=40)
    return Image.open(stream)


CHANGES: dict[str, Callable[[Images], Images]] = {
    "same bytes": lambda images: images.copy(),
    "smaller": each(lambda image: image.resize((48, 40))),
    "larger": each(lambda image: image.resize((150, 150))),
    "recompressed": each(as_jpeg),
    "brighter": lambda images: np.rint(255 * (images / 255.0) ** 0.7).astype(np.uint8),
    "window": lambda images: np.clip((images.astype(float) - 30) * 1.3, 0, 255).astype(np.uint8),
    "colour": lambda images: np.repeat(images[..., None], 3, axis=-1),
    "mirrored": lambda images: images[:, :, ::-1],
    "turned": lambda images: np.rot90(images, axes=(1, 2)),
    "transposed": lambda images: images.transpose(0, 2, 1),
    "cropped": lambda images: images[:, 1:-4, 3:-2],
    "cropped, turned and smaller": lambda images: CHANGES["smaller"](np.rot90(images[:, 2:-3, 4:-1], axes=(1, 2))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found(change: str) -> None:
    images = textured(12, (80, 80), seed=0)
    changed = CHANGES[change](images)[::-1]
    others = textured(8, changed.shape[1:3], seed=1)
    if changed.ndim == 4:
        others = np.repeat(others[..., None], 3, axis=-1)
    copies = copies_between(sketch(np.concatenate([others, changed]), 2), sketch(images, 2))
    np.testing.assert_array_equal(copies.first, np.arange(8, 20))
    np.testing.assert_array_equal(copies.second, np.arange(12)[::-1])
    assert (copies.ncc >= SAME).all()


def test_changed_copies_of_volumes_are_found() -> None:
    volumes = textured(6, (20, 24, 24), seed=0)
    turned = volumes[:, :, ::-1].transpose(0, 2, 3, 1)[:, 1:-1]
    copies = copies_between(sketch(turned, 3), sketch(volumes, 3))
    np.testing.assert_array_equal(copies.second, np.arange(6))
    assert copies_between(sketch(textured(6, (20, 24, 24), seed=1), 3), sketch(volumes, 3)).highest < 0.9


def test_other_images_are_no_copies() -> None:
    copies = copies_between(sketch(textured(300, (40, 40), 0), 2), sketch(textured(300, (40, 40), 1), 2))
    assert len(copies.first) == 0
    assert copies.highest < 0.9


def test_images_that_tell_nothing_are_compared_by_their_bytes() -> None:
    rng = np.random.default_rng(0)
    bars = np.zeros((5, 40, 40), np.uint8)
    bars[:, 10:20] = 200  # an edge of the field of view
    blobs = np.zeros((5, 40, 40), np.uint8)
    blobs[:, 18:22, 18:22] = 255
    grey = np.full((5, 40, 40), 90, np.uint8)
    for plain in (bars, blobs, grey):
        noisy = np.clip(plain + rng.integers(0, 2, plain.shape), 0, 255).astype(np.uint8)
        assert not sketch(noisy, 2).telling.any()
        assert len(copies_between(sketch(noisy, 2), sketch(plain, 2)).first) == 0
        copies = copies_between(sketch(plain[:2], 2), sketch(plain, 2))
        assert (copies.first.tolist(), copies.second.tolist(), copies.ncc.tolist()) == ([0, 1], [0, 0], [1, 1])


def test_copies_on_one_side_do_not_count() -> None:
    images = textured(4, (40, 40), 0)
    doubled = sketch(np.concatenate([images, images[:, ::-1]]), 2)
    assert len(copies_across(doubled, np.array(list("abcdabcd"))).first) == 0
    copies = copies_across(doubled, np.array(list("abcdabcx")))
    assert (copies.first.tolist(), copies.second.tolist()) == ([3, 7], [7, 3])


def test_an_empty_side_has_no_copies() -> None:
    blank = sketch(np.zeros((3, 9, 9), np.uint8), 2)
    copies = copies_between(sketch(textured(2, (9, 9), 0), 2), blank)
    assert (len(copies.first), copies.highest) == (0, -1)


@pytest.fixture
def two_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data root of `fresh`, whose third image is a turned copy of one of `known`, and whose last two are alike."""
    cards = tmp_path / "cards"
    cards.mkdir()
    known, fresh = textured(12, (40, 40), 0), textured(12, (40, 40), 1)
    fresh[2] = np.rot90(known[5])
    fresh[11] = fresh[10, ::-1]
    front = dict(read_front_matter(cards_root() / "head_ct_hemorrhage.md"))
    for name, images in (("known", known), ("fresh", fresh)):
        for index, image in enumerate(images):
            path = tmp_path / name / ("cold", "hot")[index % 2] / f"{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        block = {key: value for key, value in front["medcurves"].items() if key not in ("files", "keys", "shape")}
        block |= {
            "name": name, "classes": ["cold", "hot"], "class_counts": {"cold": 6, "hot": 6}, "n_dims": 2,
            "channels": 1, "n_samples": 12, "n_groups": 12, "format": "image_folder", "folder": name,
            "size": [40, 40], "split": {"kind": "grouped", "folds": 3, "seed": 0}, "family": f"{name}-family",
        }  # fmt: skip
        card = cards / f"{name}.md"
        for _ in range(2):
            card.write_text(f"---\n{yaml.safe_dump(front | {'medcurves': block})}---\n")
            if problems := examine(card, tmp_path).problems:
                block["tree_sha256"] = problems[0].split()[-1]
    monkeypatch.setattr("corpus_builder.datasets.cards.cards_root", lambda: cards)
    return tmp_path


def test_families_that_differ_are_a_problem(two_sets: Path) -> None:
    found = examine("fresh", two_sets, ["known"])
    (problem,) = found.problems
    assert problem.startswith("fresh shares 1 images with known (the first: sample 1 there sample ")
    assert problem.endswith("'fresh-family' and 'known-family': give both the family 'known-family'")
    assert examine("fresh", two_sets, ["all"]).problems == found.problems  # and not with itself
    card = two_sets / "cards" / "fresh.md"
    card.write_text(card.read_text().replace("fresh-family", "known-family"))
    for named in ("fresh", card):
        found = examine(named, two_sets, ["all", "known"])
        assert found.sound
        assert len(found.remarks) == 1
        assert found.remarks[0].endswith("both have the family 'known-family'")


def test_copies_in_two_groups_are_told_in_the_summary(two_sets: Path) -> None:
    assert "; leak: 2 images have a copy in another group (the first: samples " in examine("fresh", two_sets).summary
    assert "leak" not in examine("known", two_sets).summary


def test_what_cannot_be_compared_is_told(two_sets: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be held against itself"):
        examine("fresh", two_sets, ["fresh"])
    with pytest.raises(UnknownName):
        examine("fresh", two_sets, ["knwon"])
    next((two_sets / "known" / "hot").iterdir()).unlink()
    (problem,) = examine("fresh", two_sets, ["known"]).problems
    assert problem.startswith("fresh cannot be held against known: ")


def test_command(command: Callable[..., Any]) -> None:
    done = command("corpus-builder", "datasets", "check", "phantom_nodules3d", "--against", "ham10000")
    assert done.stdout.startswith("not held against ham10000: slices are not looked for in volumes\nsound: 240 samples")
    done = command("corpus-builder", "datasets", "check", "phantom_nodules3d", "--against", "ham1000")
    assert_one_line_error(done, "ham10000")


def some(name: str, data_root: Path, n: int) -> Any:
    card = load_card(name)
    images = read(card, data_root).images
    return sketch(images[np.random.default_rng(0).permutation(len(images))[:n]], card.n_dims)


def test_real_copies_are_found_with_a_wide_margin(data_root: Path) -> None:
    card = load_card("brain_tumor_mri4")
    raw = read(card, data_root)
    chosen = np.random.default_rng(0).permutation(len(raw.images))[:300]
    copies = copies_between(sketch(raw.images[chosen], 2), some("cheng_brain_tumor_mri", data_root, 3064))
    tumours = raw.labels[chosen] != card.classes.index("notumor")
    assert tumours[copies.first].all()
    assert len(copies.first) > 0.9 * tumours.sum()
    assert copies.ncc.min() > 0.995


@pytest.mark.parametrize(
    "pair",
    [
        ("ham10000", "bccd_blood_cells"),
        ("iqoth_lung_ct", "head_ct_hemorrhage"),
        ("cheng_brain_tumor_mri", "head_ct_hemorrhage"),
        ("lidc_nodule3d", "lgg_mri_patch3d"),
    ],
)
def test_unrelated_real_sets_share_nothing(pair: tuple[str, str], data_root: Path) -> None:
    first, second = (some(name, data_root, 500) for name in pair)
    assert copies_between(first, second).highest < SAME - 0.02
