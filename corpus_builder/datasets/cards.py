"""Data cards: one Markdown file per dataset, whose YAML front matter defines it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from corpus_builder.datasets.card_rules import contradictions
from metaquery.errors import InvalidCard, UnknownName
from metaquery.schema import check_document


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a dataset: its path below the data root and its SHA-256."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SplitSpec:
    """How samples get their roles: as published (`official`, one fold) or by stratified grouped folds."""

    kind: Literal["grouped", "official"]
    folds: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Card:
    """A dataset's definition; the fields are those of the block `medcurves` in `data_card.schema.json`.

    `class_counts` is in the order of `classes`. `files` is empty where the data are generated from `generator` or all
    lie in `folder`. `folder` and what follows it belong to the formats that read one image per file.
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
    class_counts: tuple[int, ...]
    family: str
    licence: str
    source: str
    citation: str
    format: str
    split: SplitSpec
    files: tuple[DataFile, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    generator: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    size: tuple[int, ...] = ()
    group_pattern: str = ""
    source_names: Mapping[str, str] = field(default_factory=dict)
    tree_sha256: str = ""

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
    return sorted(path.stem for path in cards_root().glob("*.md"))


def load_card(name_or_path: str | Path) -> Card:
    """The card called `name_or_path`, or the one in the file at that path (anything with a slash or ending in .md).

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
    """Path of the card that `load_card` would load; raises UnknownName where there is none."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith(".md"):
        path = Path(name_or_path)
        if not path.is_file():
            raise UnknownName(
                f"there is no data card at {path}: expected a Markdown file or one of the names {card_names()}"
            )
    else:
        path = cards_root() / f"{text}.md"
        if text not in card_names():
            raise UnknownName.of("dataset", text, card_names(), hint="or give the path of a data card")
    return path


def read_front_matter(path: Path) -> Mapping[str, Any]:
    """The YAML front matter of the card at `path`, unchecked; InvalidCard where there is none or it is not YAML."""
    import yaml

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
    fields["class_counts"] = tuple(block["class_counts"][name] for name in block["classes"])
    fields["size"] = tuple(block.get("size", ()))
    fields["split"] = SplitSpec(**block["split"])
    fields["files"] = tuple(DataFile(**item) for item in block.get("files", ()))
    return Card(**fields)
