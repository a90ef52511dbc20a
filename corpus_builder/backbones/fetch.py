"""Getting weights from the Hugging Face Hub: `corpus-builder backbones fetch`."""

from __future__ import annotations

import json
from pathlib import Path

from corpus_builder.backbones.registry import backbone_spec
from corpus_builder.backbones.spec import HUB, Weights
from corpus_builder.backbones.weights import file_sha256, find_file, weights_path
from corpus_builder.datasets.download import ResumableDownload
from corpus_builder.datasets.fetch import Watcher, alone
from corpus_builder.files import replace_file
from metaquery.errors import InvalidInput, MedCurvesError


def fetch(name: str, weights_root: Path | None, watcher: Watcher) -> tuple[Path, bool]:
    """Get the weights file of the backbone `name` into `weights_root`; its path, and whether it was fetched just now.

    The Hub is the one that HF_ENDPOINT says. The file is FILE.partial until it is whole; the next call continues that.
    FILE.origin.json beside it records the repository, the revision and the SHA-256. Raises InvalidInput where there is
    nothing to fetch or the Hub does not give it, InvalidData where it is not the file that the backbone expects.
    """
    spec = backbone_spec(name)
    if weights_root is None:
        raise InvalidInput(f"no weights root given: where is the file of {name} to go? Use --weights-root DIR")
    weights = spec.weights
    if weights is None:
        raise InvalidInput(f"{name} starts from random weights: there is no file to fetch")
    if find_file(weights, weights_root) is not None:
        return weights_path(spec, weights_root), False
    if not weights.source.startswith(HUB):
        raise InvalidInput(
            f"the weights of {name} are not on the Hugging Face Hub: get the file from {weights.source} and put it at "
            f"{weights_root / weights.file}"
        )
    first = weights_root / weights.file
    try:
        first.parent.mkdir(parents=True, exist_ok=True)
        with alone(first.with_name(first.name + ".lock"), watcher.say):
            if find_file(weights, weights_root) is None:
                _download(name, weights, weights_root, watcher)
    except OSError as error:
        raise InvalidInput(
            f"cannot write {first}: {error.strerror or error}; make room there or give another --weights-root"
        ) from error
    return weights_path(spec, weights_root), True


def _download(name: str, weights: Weights, weights_root: Path, watcher: Watcher) -> None:
    """Put the first of the file's names that the repository has below the root, and its origin beside it."""
    from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    repository = weights.source.removeprefix(HUB)
    problem = "the repository does not have it"
    for path in (weights_root / file for file in (weights.file, *weights.other_files)):
        try:
            revision = get_hf_file_metadata(hf_hub_url(repository, path.name)).commit_hash
            url = hf_hub_url(repository, path.name, revision=revision)
            watcher.say(f"{path}: from {url}")
            partial = path.with_name(path.name + ".partial")
            ResumableDownload(partial, watcher.progress, watcher.say, get_token() or "")(url, str(path), None)
        except RemoteEntryNotFoundError:
            continue
        except MedCurvesError:
            raise
        except Exception as error:  # whatever the Hub's client and the HTTP library below it raise
            problem = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            break
        record = {"repository": repository, "revision": revision, "file": path.name, "sha256": file_sha256(path)}
        with replace_file(path.with_name(f"{path.name}.origin.json")) as origin:
            origin.write_text(json.dumps(record, indent=2) + "\n")
        return
    raise InvalidInput(
        f"cannot fetch the weights of {name} ({problem}): get {constants.ENDPOINT}/{repository}/resolve/main/"
        f"{Path(weights.file).name} by other means and put it at {weights_root / weights.file}"
    )
