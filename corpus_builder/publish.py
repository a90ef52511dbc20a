"""Publishing a sealed corpus as a dataset repository on the Hugging Face Hub, in one commit."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from corpus_builder.card import front_matter
from corpus_builder.release import sound_manifest
from metaquery.errors import InvalidInput
from metaquery.schema import TABLE_NAMES, table
from metaquery.schema.documents import CARD, MANIFEST, SURROGATES
from metaquery.schema.hub_client import HubName, hub_errors, patiently, quiet

LICENCE = "LICENSE.md"
CITATION = "CITATION.cff"

_OF_A_RELEASE = ["*.parquet", "predictions/*", f"{SURROGATES}/*", "*.json"]  # what an earlier release left behind goes


def publish(root: Path, target: str) -> str:
    """Upload the corpus at `root` to `target`, `hf://datasets/ORG/NAME`, which is made if need be; returns the commit.

    Raises InvalidInput for another target, CorpusError where the corpus is not what its manifest says or the Hub
    refuses.
    """
    name = HubName.parse(target)
    if name.revision is not None:
        raise InvalidInput(f"{target}: a release goes to the main branch: give hf://datasets/{name.repo}")
    manifest, _ = sound_manifest(root)
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory(prefix="publish.") as work, quiet(), hub_errors(name):
        folder = published_folder(root, manifest, Path(work) / "folder")
        api = HfApi()
        patiently(lambda: api.create_repo(name.repo, repo_type="dataset", exist_ok=True))
        commit = patiently(
            lambda: api.upload_folder(
                folder_path=folder,
                repo_id=name.repo,
                repo_type="dataset",
                commit_message=f"{manifest['name']} {manifest['version']}",
                delete_patterns=_OF_A_RELEASE,
            )
        )
    return str(commit.oid)


def published_folder(root: Path, manifest: Mapping[str, Any], folder: Path) -> Path:
    """Make `folder`: the files of the corpus, its surrogates, a card where it has none, licences and citations."""
    surrogates = [path.relative_to(root).as_posix() for path in sorted(root.glob(f"{SURROGATES}/*.npz"))]
    for path in (MANIFEST, *(entry["path"] for entry in manifest["files"]), *surrogates):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to((root / path).resolve())
    datasets, backbones = (pq.read_table(root / f"{name}.parquet").to_pylist() for name in ("datasets", "backbones"))
    documents = {LICENCE: _licence(datasets, backbones), CITATION: _citation(manifest, datasets)}
    if not (folder / CARD).exists():
        documents[CARD] = _plain_card(manifest)
    for path, text in documents.items():
        (folder / path).write_text(text, encoding="utf-8")
    return folder


def _plain_card(manifest: Mapping[str, Any]) -> str:
    """The card of a corpus that was not sealed from a study: an imported one."""
    rows = {entry["path"].removesuffix(".parquet"): entry["rows"] for entry in manifest["files"]}
    names = [name for name in TABLE_NAMES if rows.get(name)]  # the viewer cannot show a table without rows
    title = f"{manifest['name']} {manifest['version']}"
    sections = [front_matter(title, names), f"# {title}", "## Tables"]
    sections.append("\n".join(f"- `{name}` ({rows[name]} rows): {table(name).description}" for name in names))
    if "imported" in manifest:
        notes = "\n".join(f"- {note}" for note in manifest["imported"]["notes"])
        sections += [f"## Imported from {manifest['imported']['format']}", notes]
    return "\n\n".join(section for section in sections if section) + "\n"


def _licence(datasets: list[dict[str, Any]], backbones: list[dict[str, Any]]) -> str:
    lines = [
        "# Licences",
        "This corpus holds numbers that were derived from images and from pretrained weights, and none of either. "
        "Their licences, which may restrict the use of what is derived from them:",
    ]
    for kind, rows in (("dataset", datasets), ("backbone", backbones)):
        header = [f"| {kind} | licence | source |", "| --- | --- | --- |"]
        body = [f"| {row[kind]} | {row['licence'] or 'unknown'} | {row['source'] or 'unknown'} |" for row in rows]
        lines.append("\n".join([*header, *body]))
    return "\n\n".join(lines) + "\n"


def _citation(manifest: Mapping[str, Any], datasets: list[dict[str, Any]]) -> str:
    """What to cite, in the Citation File Format."""
    references = [
        {
            "type": "data",
            "title": row["title"] or row["dataset"],
            "authors": [{"name": "see the notes"}],
            "notes": row["citation"] or "unknown",
        }
        for row in datasets
    ]
    document = {
        "cff-version": "1.2.0",
        "message": "Cite this corpus by name and version, and the datasets that its trials were trained on.",
        "type": "dataset",
        "title": f"MedCurves corpus {manifest['name']}",
        "version": manifest["version"],
        "authors": [{"name": "MedCurves contributors"}],
        "references": references,
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
