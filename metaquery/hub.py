"""Corpora on the Hugging Face Hub: pulled whole or in part, checked against their manifest, opened without a network.

Below the cache's directory `hub`, for a repository ORG/NAME:

    ORG--NAME/<commit>/            the corpus, as far as it was pulled; a file is there whole and checked, or not at all
    ORG--NAME/<commit>.parts/      files that are not finished, which the next pull goes on with
    ORG--NAME/revisions.json       the commit that each revision was when it was last pulled
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaquery.cache import cache_directory
from metaquery.errors import CorpusError, InvalidInput, UnknownName
from metaquery.schema.documents import MANIFEST, SURROGATES, check_document
from metaquery.schema.hub_client import HubName, Patience, hub_errors, patiently, quiet
from metaquery.schema.predictions import predictions_path
from metaquery.schema.tables import TABLE_NAMES

SMALL_TABLE = 64 * 2**20
"""A table of at most so many bytes is pulled by opening a corpus that was not pulled."""

_HUB = "hub"
_REVISIONS = "revisions.json"
_MAIN = "main"
_SURROGATE = re.compile(rf"{SURROGATES}/\w+\.npz")

Say = Callable[[str], None]


def pull(
    source: str,
    tables: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    say: Say = lambda _: None,
) -> Path:
    """Bring a corpus from the Hub into the cache, at the commit that its revision now is; returns its directory.

    Without `tables` and `datasets` all of it, and the surrogates that were published with it; with `tables` those, each
    whole, with the rows of all datasets; with `datasets` also the predictions of those; the manifest, the search space
    and the card always. What is there already
    is not fetched again, and a file that was cut off goes on where it ended. `say` is told what happens. Raises
    UnknownName for a table or dataset that it does not have, InvalidInput for a name that is none, CorpusError where
    the Hub or a file is not sound.
    """
    for table in tables or ():
        if table not in TABLE_NAMES:
            raise UnknownName.of("table", table, TABLE_NAMES)
    name = HubName.parse(source)
    if tables is None and datasets is None:
        return _surrogates(name, _pull(name, lambda _: True, None, say), say)
    wanted = _paths(tables, datasets)
    return _pull(name, lambda entry: entry["path"] in wanted, datasets, say)


def opened(source: str) -> Path:
    """The directory of the corpus `source` as it was pulled, or else its small tables are pulled."""
    name = HubName.parse(source)
    known = _pulled(name)
    if known is not None:
        return known
    return _pull(name, lambda entry: _table(entry) is not None and entry["bytes"] <= SMALL_TABLE, None, lambda _: None)


def missing(root: Path, path: str) -> str:
    """What to do about the file `path`, which the corpus in `root` lacks."""
    try:
        within = root.resolve().relative_to((cache_directory() / _HUB).resolve()).parts
    except (InvalidInput, ValueError):
        return "the corpus is incomplete, copy or download it again"
    repo, commit = within[0].replace("--", "/", 1), within[1]
    table = _table({"path": path})
    dataset = path.removeprefix("predictions/").removesuffix(".zarr.zip")
    part = f" --tables {table}" if table else f" --datasets {dataset}" if dataset != path else ""
    return f"run  metaquery pull {HubName(repo, commit)}{part}"


def _paths(tables: Sequence[str] | None, datasets: Sequence[str] | None) -> set[str]:
    return {f"{table}.parquet" for table in (TABLE_NAMES if tables is None else tables)} | {
        predictions_path(dataset) for dataset in datasets or ()
    }


def _table(entry: dict[str, Any]) -> str | None:
    """The table that a file of the manifest holds."""
    name = str(entry["path"]).removesuffix(".parquet")
    return name if name in TABLE_NAMES else None


def _optional(entry: dict[str, Any]) -> bool:
    return _table(entry) is not None or str(entry["path"]).startswith("predictions/")


def _directory(repo: str) -> Path:
    return cache_directory() / _HUB / repo.replace("/", "--")


def _pulled(name: HubName) -> Path | None:
    """The directory of what was pulled of that revision."""
    directory = _directory(name.repo)
    commit = name.commit or _revisions(directory).get(name.revision or _MAIN)
    return directory / commit if commit and (directory / commit / MANIFEST).is_file() else None


def _revisions(directory: Path) -> dict[str, str]:
    try:
        return dict(json.loads((directory / _REVISIONS).read_bytes()))
    except (OSError, ValueError):
        return {}


def _pull(name: HubName, wanted: Callable[[dict[str, Any]], bool], datasets: Collection[str] | None, say: Say) -> Path:
    directory = _directory(name.repo)
    with quiet(), hub_errors(name):
        commit = name.commit or _resolve(name)
        revision = name.revision or _MAIN
        before = _revisions(directory).get(revision)
        if before not in (None, commit):
            say(
                f"{revision} has moved from {before} to {commit}: both are kept, {HubName(name.repo)} opens the new one"
            )
        root, parts = directory / commit, directory / f"{commit}.parts"
        root.mkdir(parents=True, exist_ok=True)
        with _locked(directory / f"{commit}.lock"):
            manifest = _manifest(HubName(name.repo, commit), root, parts)
            files = manifest["files"]
            for dataset in datasets or ():
                if predictions_path(dataset) not in {entry["path"] for entry in files}:
                    have = [entry["path"].split("/")[1].split(".")[0] for entry in files if "/" in entry["path"]]
                    raise UnknownName.of("dataset with predictions", dataset, have)
            for entry in files:
                if (not _optional(entry) or wanted(entry)) and not _there(root, entry):
                    say(f"{entry['path']}: {entry['bytes'] / 1e6:.1f} MB")
                    _fetch(HubName(name.repo, commit), entry, root, parts)
            if not any(path.is_file() for path in parts.rglob("*")):
                shutil.rmtree(parts, ignore_errors=True)
        _record(directory, revision, commit)
    return root


def _surrogates(name: HubName, root: Path, say: Say) -> Path:
    """Bring the surrogates beside the corpus in `root`; no manifest has them, each names the corpus that it is of."""
    from huggingface_hub import HfApi

    name = HubName(name.repo, root.name)
    with quiet(), hub_errors(name), _locked(root.parent / f"{root.name}.lock"):
        if (root / SURROGATES).is_dir():  # a commit does not change: no need of the network again
            return root
        there = patiently(lambda: HfApi().list_repo_files(name.repo, revision=name.revision, repo_type="dataset"))
        parts = root.parent / f"{root.name}.parts" / SURROGATES
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        for path in filter(_SURROGATE.fullmatch, there):
            say(path)
            _download(name, path, parts.parent / path, None)
        os.replace(parts, root / SURROGATES)
        parts.parent.rmdir()
    return root


def _resolve(name: HubName) -> str:
    from huggingface_hub import HfApi

    return str(patiently(lambda: HfApi().dataset_info(name.repo, revision=name.revision)).sha)


def _there(root: Path, entry: dict[str, Any]) -> bool:
    path: Path = root / entry["path"]
    return path.is_file() and path.stat().st_size == int(entry["bytes"])


def _manifest(name: HubName, root: Path, parts: Path) -> dict[str, Any]:
    path = root / MANIFEST
    if not path.is_file():
        part = parts / f"{MANIFEST}.part"
        part.unlink(missing_ok=True)  # nothing says what it should be: never go on with an old one
        _download(name, MANIFEST, part, None)
        check_document("manifest", _json(part, name), what=f"{MANIFEST} of {name}", error=CorpusError)
        os.replace(part, path)
    return _json(path, name)


def _json(path: Path, name: HubName) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise CorpusError(f"{MANIFEST} of {name} is not JSON: {error}") from None
    return document


def _fetch(name: HubName, entry: dict[str, Any], root: Path, parts: Path) -> None:
    """Bring one file of the manifest to its place, once its content is what the manifest says."""
    part, path = parts / f"{entry['path']}.part", root / entry["path"]
    _download(name, entry["path"], part, entry["bytes"])
    with part.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != entry["sha256"]:
        part.unlink()
        raise CorpusError(
            f"{entry['path']} of {name} is not what its {MANIFEST} says: pull again, or tell those who published it"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, path)


def _download(name: HubName, path: str, part: Path, size: int | None) -> None:
    """Download a file of the repository to `part`, going on behind what is there, of up to `size` bytes."""
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    part.parent.mkdir(parents=True, exist_ok=True)
    url = hf_hub_url(name.repo, path, repo_type="dataset", revision=name.revision)
    patience = Patience()

    def attempt() -> None:
        start = part.stat().st_size if part.exists() else 0
        if size is not None and start > size:
            part.unlink()
            start = 0
        if size is not None and start == size:
            return
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with get_session().stream("GET", url, headers=headers, follow_redirects=True) as response:
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            with part.open("ab" if response.status_code == 206 else "wb") as file:
                for block in response.iter_raw():  # as it comes: what waits for a whole block is lost when cut off
                    file.write(block)
                    patience.renew()
        if size is not None and part.stat().st_size < size:
            raise ConnectionError(f"{path} ended early")

    patiently(attempt, patience)


def _record(directory: Path, revision: str, commit: str) -> None:
    with _locked(directory / f"{_REVISIONS}.lock"):
        known = {**_revisions(directory), revision: commit}
        part = directory / f"{_REVISIONS}.part"
        part.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        os.replace(part, directory / _REVISIONS)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """While no other process that does the same is here."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
