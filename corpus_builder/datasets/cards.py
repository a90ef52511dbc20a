"""Data cards: one Markdown file per dataset, whose YAML front matter defines it, or an entry of a table of cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from corpus_builder.datasets import card_table
from corpus_builder.datasets.card_rules import contradictions
from metaquery.errors import InvalidCard, UnknownName
from metaquery.schema import check_document


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a dataset: its path below the data root, a checksum (SHA-256, or the MD5 that its publisher gives) and
    the addresses, in order of preference, from which it can be fetched."""

    path: str
    sha256: str = ""
    md5: str = ""
    urls: tuple[str, ...] = ()

    @property
    def checksum(self) -> str:
        """What identifies the content: the SHA-256, or the MD5 with its name before it."""
        return self.sha256 or f"md5:{self.md5}"


@dataclass(frozen=True, slots=True)
class SplitSpec:
    """How samples get their roles: as published (`official`, one fold; `table`, those of the table `file`) or by
    stratified grouped folds."""

    kind: Literal["grouped", "official", "table"]
    folds: int = 1
    seed: int = 0
    file: str = ""


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """How a volume becomes an array: millimetres between voxels as (depth, height, width), the values that become 0
    and 255, per channel (`windows`) or as percentiles of each volume, the margin in millimetres around the mask to
    which it is cut (None: it is not cut), and the mask's label that counts (None: all but 0)."""

    spacing: tuple[float, ...]
    windows: tuple[tuple[float, float], ...] = ()
    percentiles: tuple[float, float] | None = None
    margin: float | None = None
    mask_label: int | None = None


@dataclass(frozen=True, slots=True)
class Augmentable:
    """What augmentation may do to the images without making them anatomically wrong: along which array axes, counted
    from the end, they may be mirrored, and whether their intensity may drift over the image, as it does in MRI."""

    flips: tuple[int, ...] = ()
    bias_field: bool = False


_AXES = {"left-right": -1, "up-down": -2, "front-back": -3}


@dataclass(frozen=True, slots=True)
class Card:
    """A dataset's definition; the fields are those of the block `medcurves` in `data_card.schema.json`.

    `class_counts` is in the order of `classes`, and empty where only `split_counts`, the samples of each role, are
    known. `shape`, the spatial shape of a sample in the files, is empty where the card does not tell it. `label_rule`
    says how several labels per sample become one. `files` is empty where the data are generated from `generator` or all
    lie in `folder`. `folder` and what follows it belong to the formats that read one image per file; `volume` and what
    follows it to those that read volumes. `keys.images` is a list of columns where each channel has its own.
    """

    name: str
    title: str
    modality: str
    body_part: str
    oncology: str
    classes: tuple[str, ...]
    n_dims: int
    channels: int
    n_samples: int
    n_groups: int
    family: str
    licence: str
    source: str
    citation: str
    format: str
    split: SplitSpec
    class_counts: tuple[int, ...] = ()
    split_counts: Mapping[str, int] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    label_rule: str = ""
    files: tuple[DataFile, ...] = ()
    keys: Mapping[str, Any] = field(default_factory=dict)
    generator: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    size: tuple[int, ...] = ()
    group_pattern: str = ""
    source_names: Mapping[str, str] = field(default_factory=dict)
    tree_sha256: str = ""
    volume: VolumeSpec | None = None
    mixed_groups: bool = False
    augmentation: Augmentable = Augmentable()

    def __hash__(self) -> int:
        return hash((self.name, self.files))  # the mappings cannot be hashed; equal cards still hash alike


@cache
def cards_root() -> Path:
    """Directory of the cards: beside the packages in a checkout, inside `corpus_builder` in a wheel."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "data_cards"
    return installed if installed.is_dir() else package.parent / "data_cards"


def card_names() -> list[str]:
    """Names of the datasets that have a card, sorted."""
    return list(set_names())


def set_names() -> dict[str, str]:
    """The names of the datasets, sorted, each with that of its set; the datasets of a set differ only in their size."""
    found = {path.stem: path.stem for path in cards_root().glob("*.md")}
    for table in _tables():
        found = card_table.set_of_each(table) | found
    return dict(sorted(found.items()))


def _tables() -> list[Path]:
    return sorted(cards_root().glob(f"*{card_table.SUFFIX}"))


def load_card(name_or_path: str | Path) -> Card:
    """The card called `name_or_path`, or the one at that path (anything with a slash or ending in .md).

    Raises UnknownName for a name or file that does not exist and InvalidCard, naming every violation of the schema
    (or, where it follows the schema, every contradiction), for a card that does not define a dataset.
    """
    path = card_path(name_or_path)
    front = read_front_matter(path)
    what = f"data card {path}"
    check_document("data_card", front, what=what, error=InvalidCard)
    block = front["medcurves"]
    if problems := contradictions(block, path):
        raise InvalidCard(f"{what} contradicts itself: {'; '.join(problems)}")
    return card_from(block)


def card_path(name_or_path: str | Path) -> Path:
    """Path of the card that `load_card` would load, TABLE.yaml/NAME for a card in a table; raises UnknownName where
    there is none."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith(".md"):
        path = Path(name_or_path)
        if not path.is_file() and not card_table.is_entry(path):
            raise UnknownName(
                f"there is no data card at {path}: expected a Markdown file, or a name that `datasets` lists"
            )
    else:
        in_tables = (table / text for table in _tables() if card_table.is_entry(table / text))
        markdown = cards_root() / f"{text}.md"
        path = markdown if markdown.is_file() else next(in_tables, markdown)
        if path == markdown and not markdown.is_file():
            raise UnknownName.of("dataset", text, card_names(), hint="or give the path of a data card")
    return path


def read_front_matter(path: Path) -> Mapping[str, Any]:
    """The YAML front matter of the card at `path`, unchecked; InvalidCard where there is none or it is not YAML."""
    import yaml

    if card_table.is_entry(path):
        return card_table.front_matter(path)
    what = f"data card {path}"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidCard(f"{what} is not UTF-8 text: {error}") from error
    fences = [number for number, line in enumerate(lines) if line.rstrip() == "---"]
    if fences[:1] != [0] or len(fences) < 2:
        raise InvalidCard(f"{what} has no front matter: expected YAML between two lines '---' at its beginning")
    try:
        front = yaml.safe_load("\n".join(lines[1 : fences[1]]))
    except yaml.YAMLError as error:
        raise InvalidCard(f"{what}: the front matter is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(front, dict):
        raise InvalidCard(f"{what}: the front matter must be a mapping, got {type(front).__name__}")
    return front


def card_from(block: Mapping[str, Any]) -> Card:
    """The card that the block `medcurves` describes, which follows the schema and does not contradict itself."""
    fields = dict(block)
    fields["classes"] = tuple(block["classes"])
    counts = block.get("class_counts")
    fields["class_counts"] = () if counts is None else tuple(counts[name] for name in block["classes"])
    fields["shape"] = tuple(block.get("shape", ()))
    fields["size"] = tuple(block.get("size", ()))
    fields["split"] = SplitSpec(**block["split"])
    fields["files"] = tuple(map(file_from, block.get("files", ())))
    if "volume" in block:
        fields["volume"] = _volume_from(block["volume"], block["channels"])
    allowed = block.get("augmentation", {})
    flips = tuple(_AXES[name] for name in allowed.get("flips", ()))
    fields["augmentation"] = Augmentable(flips, allowed.get("bias_field", False))
    return Card(**fields)


def _volume_from(block: Mapping[str, Any], channels: int) -> VolumeSpec:
    fields = {key: value for key, value in block.items() if key in ("margin", "mask_label")}
    if "percentiles" in block:
        fields["percentiles"] = tuple(block["percentiles"])
    if window := block.get("window"):
        each = window if isinstance(window[0], list) else [window] * channels
        fields["windows"] = tuple((low, high) for low, high in each)
    return VolumeSpec(spacing=tuple(block["spacing"]), **fields)


def file_from(item: Mapping[str, Any]) -> DataFile:
    """The file that an item of `files` describes, which follows the schema."""
    return DataFile(**{**item, "urls": tuple(item.get("urls", ()))})
