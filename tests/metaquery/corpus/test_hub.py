"""Pulling from a Hub that limits, cuts off, moves and lies; opening what was pulled without it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import assert_one_line_error
from hub_server import Hub, serving

import metaquery as mq
from metaquery.errors import CorpusError, InvalidInput, MedCurvesError, UnknownName
from metaquery.hub import pull
from metaquery.schema.hub_client import HubName
from metaquery.verify import verify

TOKEN = "hf_do_not_tell_anybody"
NAME = "hf://datasets/org/factory"


@pytest.fixture(scope="module")
def files(corpus_path: Path) -> dict[str, bytes]:
    paths = [path for path in corpus_path.rglob("*") if path.is_file()]
    return {path.relative_to(corpus_path).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def hub(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with the shared corpus, an empty cache, and a token in the environment."""
    from huggingface_hub import constants

    monkeypatch.setenv("MEDCURVES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving(token=TOKEN) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + "".join(template[1:]))
        served.commit("org/factory", {**files, ".gitattributes": b"* text", "LICENSE.md": b"not of the corpus"})
        yield served


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited, at once."""
    seconds: list[float] = []
    monkeypatch.setattr("metaquery.schema.hub_client.time.sleep", seconds.append)
    return seconds


def present(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_the_whole_corpus_comes_as_it_is(hub: Hub, files: dict[str, bytes], corpus_path: Path) -> None:
    root = pull(NAME)
    assert root.name == hub.refs["org/factory"]["main"]
    assert {name: (root / name).read_bytes() for name in present(root)} == files
    assert not list(root.parent.glob("*.parts"))
    assert verify(NAME) == []
    assert hub.downloads() == dict.fromkeys(files, 1)
    pulled = mq.open(NAME)
    assert (pulled.root, pulled.hash) == (root, mq.open(corpus_path).hash)
    pull(NAME)
    assert hub.downloads() == dict.fromkeys(files, 1)  # nothing twice


def test_a_surrogate_comes_with_the_whole_corpus_alone(hub: Hub, files: dict[str, bytes]) -> None:
    more = {
        "surrogate/auc.npz": b"learned",
        "surrogate/../auc.npz": b"elsewhere",
        "surrogate/note.txt": b"no surrogate",
    }
    hub.commit("org/factory", {**files, **more})
    assert "surrogate/auc.npz" not in present(pull(NAME, tables=["trials"]))
    root = pull(NAME)
    assert {name: (root / name).read_bytes() for name in present(root)} == {**files, "surrogate/auc.npz": b"learned"}
    assert not list(root.parent.glob("*.parts"))
    hub.limited = 1_000
    pull(f"{NAME}@{root.name}")  # which needs no network any more
    assert hub.downloads()["surrogate/auc.npz"] == 1


def test_parts_and_the_command_that_fetches_the_rest(hub: Hub) -> None:
    root = pull(NAME, tables=["curves", "trials"])
    assert present(root) == {"corpus.json", "space.json", "curves.parquet", "trials.parquet"}
    corpus = mq.open(NAME)
    trial_id = corpus.sql("select trial_id from trials join curves using (trial_id) where dataset = 'beta'").rows()[0][
        0
    ]
    source = f"metaquery pull {NAME}@{root.name}"
    for attempt, option in (
        (lambda: corpus.table("configs"), "--tables configs"),
        (lambda: corpus.sql("from learning_curves"), "--tables configs"),
        (lambda: corpus.predictions(trial_id), "--datasets beta"),
    ):
        with pytest.raises(CorpusError, match=rf"is missing: run  {source} {option}$"):
            attempt()
    pull(f"{NAME}@{root.name}", tables=["configs"])
    assert len(corpus.table("configs")) > 0
    pull(NAME, tables=[], datasets=["beta"])
    assert present(root) >= {"predictions/beta.zarr.zip"}
    assert not present(root) & {"predictions/alpha.zarr.zip", "splits.parquet"}
    assert len(mq.open(NAME).predictions(trial_id)[0]) > 0


def test_opening_pulls_the_small_tables(hub: Hub, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    sizes = {name: len(content) for name, content in files.items() if name.endswith(".parquet")}
    largest = max(sizes, key=sizes.__getitem__)
    monkeypatch.setattr("metaquery.hub.SMALL_TABLE", sizes[largest] - 1)
    root = mq.open(NAME).root
    assert present(root) == {"corpus.json", "space.json", *sizes} - {largest}


def test_no_network_is_needed_afterwards(hub: Hub, slept: list[float]) -> None:
    root = pull(NAME, tables=["trials"])
    asked = len(hub.seen)
    hub.down = True
    for name in (NAME, f"{NAME}@main", f"{NAME}@{root.name}"):
        assert len(mq.open(name).table("trials")) > 0
    assert len(hub.seen) == asked
    with pytest.raises(CorpusError, match=r"cannot be reached .*try again later, finished files are kept"):
        pull(NAME)
    assert len(slept) == 2
    with pytest.raises(CorpusError, match="other: the Hub cannot be reached"):
        mq.open("hf://datasets/org/other")


def test_the_hub_may_ask_for_patience(hub: Hub, slept: list[float]) -> None:
    hub.limited, hub.retry_after = 3, "7"
    pull(NAME, tables=["trials"])
    assert hub.limited == 0
    assert slept.count(7.0) >= 1
    assert all(seconds >= 7.0 for seconds in slept)
    hub.limited = 10**6
    with pytest.raises(CorpusError, match="the Hub answers 429: try again later"):
        pull(NAME, tables=["curves"])
    assert len(slept) < 30


def test_a_cut_connection_is_gone_on_with(hub: Hub, slept: list[float], files: dict[str, bytes]) -> None:
    hub.cut = {"curves.parquet": 5000}
    root = pull(NAME, tables=["curves"])
    assert (root / "curves.parquet").read_bytes() == files["curves.parquet"]
    assert "bytes=5000-" in [headers.get("Range") for _, path, headers in hub.seen if path.endswith("curves.parquet")]
    assert len(slept) == 1


def test_a_later_pull_goes_on_where_an_earlier_one_ended(
    hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metaquery.schema.hub_client.time.sleep", lambda _: setattr(hub, "down", True))
    hub.cut = {"curves.parquet": 7000}
    with pytest.raises(CorpusError, match="cannot be reached"):
        pull(NAME)
    root = Path(os.environ["MEDCURVES_CACHE"]) / "hub" / "org--factory" / hub.refs["org/factory"]["main"]
    assert not (root / "curves.parquet").exists()
    assert (root.with_name(f"{root.name}.parts") / "curves.parquet.part").stat().st_size == 7000
    finished = present(root)
    hub.down = False
    before, asked = hub.downloads(), len(hub.seen)
    pull(NAME)
    assert (root / "curves.parquet").read_bytes() == files["curves.parquet"]
    again = hub.downloads() - before
    assert not set(again) & finished
    ranges = [h.get("Range") for _, path, h in hub.seen[asked:] if path.endswith("curves.parquet")]
    assert ranges == ["bytes=7000-"]


def test_a_moved_revision(hub: Hub, files: dict[str, bytes]) -> None:
    first = pull(NAME, tables=["trials"])
    manifest = json.loads(files["corpus.json"])
    second = hub.commit("org/factory", {**files, "corpus.json": json.dumps({**manifest, "version": "2.0"}).encode()})
    assert mq.open(NAME).version == "1.0"  # until it is pulled again
    said: list[str] = []
    root = pull(NAME, tables=["trials"], say=said.append)
    assert root.name == second != first.name
    assert said[0].startswith(f"main has moved from {first.name} to {second}")
    assert mq.open(NAME).version == "2.0"
    assert mq.open(f"{NAME}@{first.name}").version == "1.0"
    hub.commit("org/factory", files, "v1")
    assert pull(f"{NAME}@v1").name == hub.refs["org/factory"]["v1"]
    recorded = json.loads((root.parent / "revisions.json").read_text())
    assert recorded == {"main": second, "v1": hub.refs["org/factory"]["v1"]}


def test_a_file_that_is_not_what_the_manifest_says(hub: Hub, files: dict[str, bytes]) -> None:
    content = bytearray(files["trials.parquet"])
    content[100] ^= 1
    hub.commit("org/factory", {**files, "trials.parquet": bytes(content)})
    with pytest.raises(CorpusError, match=r"trials.parquet of .* is not what its corpus.json says"):
        pull(NAME)
    hub.commit("org/factory", {**files, "trials.parquet": files["trials.parquet"] + b"more"})
    with pytest.raises(CorpusError, match=r"trials.parquet of .* is not what its corpus.json says"):
        pull(NAME)
    assert not list(Path(os.environ["MEDCURVES_CACHE"]).rglob("trials.parquet*"))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "corpus.json of"),
        (b'{"files": [{"path": "../../x", "bytes": 1, "sha256": "0", "rows": null}]}', "corpus.json of"),
    ],
)
def test_a_manifest_that_is_none(hub: Hub, files: dict[str, bytes], manifest: bytes, message: str) -> None:
    hub.commit("org/factory", {**files, "corpus.json": manifest})
    with pytest.raises(MedCurvesError, match=message):
        pull(NAME)
    with pytest.raises(MedCurvesError):
        mq.open(NAME)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("hf://datasets/org/nothing",), InvalidInput, "no such dataset on the Hub, or it is private"),
        ((f"{NAME}@v9",), InvalidInput, "no such revision"),
        ((f"{NAME}@{'0' * 40}",), InvalidInput, "no such revision"),
        (("hf://org/factory",), InvalidInput, "expected hf://datasets/ORG/NAME"),
        (("hf://datasets/../x",), InvalidInput, "expected hf://datasets/ORG/NAME"),
        (("mini",), InvalidInput, "expected hf://datasets/ORG/NAME"),
        ((NAME, ["curve"]), UnknownName, "unknown table 'curve': did you mean curves"),
        ((NAME, None, ["alfa"]), UnknownName, "unknown dataset with predictions 'alfa': did you mean alpha"),
    ],
)
def test_refusals(hub: Hub, arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pull(*arguments)


def test_a_repository_that_is_no_corpus(hub: Hub) -> None:
    hub.commit("org/other", {"README.md": b"hello"})
    with pytest.raises(CorpusError, match="is not a corpus, or not whole"):
        pull("hf://datasets/org/other")


def test_names() -> None:
    name = HubName.parse("hf://datasets/org/name@refs/pr/1")
    assert (name.repo, name.revision, name.commit) == ("org/name", "refs/pr/1", None)
    assert str(name) == "hf://datasets/org/name@refs/pr/1"
    assert HubName.parse(f"hf://datasets/org/name.v2@{'a' * 40}").commit == "a" * 40


def test_the_token_is_sent_and_never_told_or_kept(
    hub: Hub, tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = pull(NAME)
    sent = [headers.get("authorization") or headers.get("Authorization") for _, _, headers in hub.seen]
    assert set(sent) == {f"Bearer {TOKEN}"}
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    done = command("metaquery", "pull", NAME, "--tables", "curves,trials", env=environment)
    assert done.returncode == 0
    assert done.stdout == f"{NAME}: commit {root.name} in {root}\n"
    refused = command("metaquery", "pull", NAME, env={**environment, "HF_TOKEN": "hf_another_secret"})
    assert_one_line_error(refused, "the Hub refuses (401): run  hf auth login")
    for text in (done.stdout, done.stderr, refused.stderr, caplog.text):
        assert "hf_" not in text.replace("hf_hub", "")
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()
