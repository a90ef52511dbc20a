"""A published corpus: what arrives on the Hub, and that `datasets` and `metaquery` read it from there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import assert_one_line_error
from factory import make_corpus
from hub_server import serving

import metaquery as mq
from corpus_builder.publish import CITATION, LICENCE, published_folder
from corpus_builder.release import sound_manifest
from metaquery.importers import import_corpus
from metaquery.schema import TABLE_NAMES

SURROGATE = b"of the corpus"
TOKEN = "hf_do_not_tell_anybody"
TARGET = "hf://datasets/org/small"


@pytest.fixture(scope="module")
def published(tmp_path_factory, command):
    """The bundled corpus, published once, then a smaller one over it: both folders as they are on the Hub."""
    folders = []
    small = make_corpus(tmp_path_factory.mktemp("publish") / "small", datasets=("alpha",), epochs=3)
    mini = tmp_path_factory.mktemp("publish") / "mini"
    shutil.copytree(mq.open("mini").root, mini)
    (mini / "surrogate").mkdir()
    (mini / "surrogate" / "auc.npz").write_bytes(SURROGATE)
    with serving(token=TOKEN) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
        hub.limited = 1
        for corpus in (mini, small):
            before = {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
            done = command("corpus-builder", "publish", corpus, TARGET, env=environment)
            assert (done.returncode, done.stderr) == (0, "")
            commit = hub.refs["org/small"]["main"]
            assert done.stdout == f"{TARGET}: commit {commit}; get it with: metaquery pull {TARGET}@{commit}\n"
            assert {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()} == before
            folder = tmp_path_factory.mktemp("published")
            for name, content in hub.files("org/small").items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(content)
            folders.append(folder)
        refused = command("corpus-builder", "publish", small, TARGET, env={**environment, "HF_TOKEN": "hf_other"})
        assert_one_line_error(refused, "the Hub refuses (401): run  hf auth login")
        assert "hf_other" not in refused.stderr
        assert TOKEN.encode() not in b"".join(hub.files("org/small").values())
    return folders


def listed(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def files_of(folder: Path) -> set[str]:
    return {"corpus.json", *(entry["path"] for entry in json.loads((folder / "corpus.json").read_text())["files"])}


def test_the_files_of_the_corpus_and_what_belongs_to_it(published):
    mini, small = published
    source = mq.open("mini").root
    assert listed(mini) == {*files_of(mini), LICENCE, CITATION, "surrogate/auc.npz"}
    assert (mini / "surrogate" / "auc.npz").read_bytes() == SURROGATE
    assert {name: (mini / name).read_bytes() for name in files_of(mini)} == {
        name: (source / name).read_bytes() for name in files_of(source)
    }
    assert listed(small) == {*files_of(small), "README.md", LICENCE, CITATION}  # nothing of the release before
    assert len(listed(mini)) < 100


def test_licences_and_citations_are_those_of_the_tables(published):
    folder = published[0]
    licence, citation = (folder / LICENCE).read_text(), yaml.safe_load((folder / CITATION).read_text())
    for row in mq.open("mini").table("datasets").to_pylist():
        assert f"| {row['dataset']} | {row['licence']} | {row['source']} |" in licence
    for row in mq.open("mini").table("backbones").to_pylist():
        assert f"| {row['backbone']} | {row['licence']} |" in licence
    datasets = mq.open("mini").table("datasets").to_pylist()
    assert [item["notes"] for item in citation["references"]] == [row["citation"] for row in datasets]
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", mq.open("mini").version)


def front(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_datasets_loads_every_table_from_the_folder(published, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    for folder, offered in ((published[0], list(TABLE_NAMES)), (published[1], ["datasets", "trials", "curves"])):
        names = [config["config_name"] for config in front(folder)["configs"]]
        assert set(names) >= set(offered)
        corpus = mq.Corpus(folder)
        for name in offered:
            loaded = datasets.load_dataset(str(folder), name, split="train", cache_dir=str(tmp_path / folder.name))
            expected = corpus.table(name)
            assert loaded.column_names == expected.column_names
            assert loaded.to_list() == expected.to_pylist()


def test_an_imported_corpus_gets_a_card_of_the_tables_that_have_rows(tmp_path):
    (tmp_path / "logs.csv").write_text("site,step,lr,auc\nhere,1,0.1,0.6\nhere,2,0.1,0.7\n")
    mapping = {
        "name": "mine",
        "file": "logs.csv",
        "columns": {"dataset": "site", "epoch": "step"},
        "metrics": {"val_auc": "auc"},
        "hyperparameters": {"lr": {}},
    }
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    import_corpus("table", tmp_path / "mapping.yaml", tmp_path / "corpus")
    manifest, _ = sound_manifest(tmp_path / "corpus")
    folder = published_folder(tmp_path / "corpus", manifest, tmp_path / "folder")
    names = [config["config_name"] for config in front(folder)["configs"]]
    corpus = mq.open(tmp_path / "corpus")
    assert names == [name for name in TABLE_NAMES if len(corpus.table(name))]
    assert "splits" not in names
    for note in manifest["imported"]["notes"]:
        assert f"- {note}" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("corpus", "target", "words"),
    [
        ("good", "hf://datasets/org/small@main", ["a release goes to the main branch: give hf://datasets/org/small"]),
        ("good", "org/small", ["expected hf://datasets/ORG/NAME"]),
        ("none", TARGET, ["is not a sealed corpus, it has no corpus.json"]),
        ("damaged", TARGET, ["is not what corpus.json says: run  metaquery verify"]),
    ],
)
def test_refusals(command, tmp_path, corpus, target, words):
    root = tmp_path / "corpus"
    if corpus != "none":
        make_corpus(root, datasets=("alpha",), epochs=3)
    if corpus == "damaged":
        (root / "space.json").write_text("{}")
    done = command("corpus-builder", "publish", root, target, env={"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert_one_line_error(done, *words)
