"""Fetching weights from a Hub: a small local server speaks its protocol, the command runs in a process of its own."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from conftest import assert_one_line_error
from safetensors.torch import save_file

from corpus_builder.backbones import backbone_spec
from corpus_builder.backbones.fetch import fetch as download
from corpus_builder.backbones.timm_models import import_timm
from corpus_builder.backbones.weights import build
from metaquery.errors import InvalidInput

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")

NAME = "timm:test_resnet.r160_in1k"
REPOSITORY = "timm/test_resnet.r160_in1k"
REVISION = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_aVerySecretTokenThatNobodyMaySee"


class Silent:
    def say(self, text):
        pass

    def progress(self, done, length):
        pass


class Hub:
    """Repositories as {repository: {file: bytes}}, and what was asked of them."""

    def __init__(self):
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.tokens: dict[str, set[str | None]] = {}  # path -> what was shown there

    def serve(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def refuse(self, code):
                self.send_response(404)
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def answer(self, *, body):
                hub.requests.append((self.command, self.path, self.headers.get("Range")))
                hub.tokens.setdefault(self.path, set()).add(self.headers.get("Authorization"))
                if body and "/resolve/" in self.path:  # as the Hub does, files are somewhere else
                    self.send_response(302)
                    self.send_header("Location", self.path.replace("/resolve/", "/elsewhere/"))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                repository, _, rest = self.path.lstrip("/").replace("/elsewhere/", "/resolve/").partition("/resolve/")
                revision, _, name = rest.partition("/")
                if name not in hub.repositories.get(repository, {}) or revision not in ("main", REVISION):
                    self.refuse("EntryNotFound" if repository in hub.repositories else "RepoNotFound")
                    return
                content = hub.repositories[repository][name]
                start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
                self.send_response(206 if start else 200)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", REVISION)
                self.send_header("Content-Length", str(len(content) - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.end_headers()
                if body:
                    self.wfile.write(content[start:])

        return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def hub():
    hub = Hub()
    server = hub.serve()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def published(tmp_path):
    """A state dict of the published layout, as bytes of a safetensors file and as tensors."""
    torch.manual_seed(0)
    state = import_timm().create_model("test_resnet").state_dict()
    path = tmp_path / "published.safetensors"
    save_file(state, path)
    return path.read_bytes(), state


@pytest.fixture
def fetch(command, hub, tmp_path):
    """Run `corpus-builder backbones fetch` against the local Hub, with a token that must not be seen."""

    def run(name, url=None):
        environment = {
            "HF_ENDPOINT": url or hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(tmp_path / "hf"),
        }
        done = command("corpus-builder", "backbones", "fetch", name, "--weights-root", tmp_path / "w", env=environment)
        assert TOKEN not in done.stdout + done.stderr
        return done

    return run


def test_a_file_is_fetched_recorded_and_fits(hub, fetch, published, tmp_path):
    content, state = published
    hub.repositories[REPOSITORY] = {"model.safetensors": content}
    done = fetch(NAME)
    path = tmp_path / "w" / "timm" / "test_resnet.r160_in1k" / "model.safetensors"
    assert (done.returncode, done.stdout) == (0, f"{path}: fetched\n"), done.stderr
    assert path.read_bytes() == content
    assert json.loads(path.with_name("model.safetensors.origin.json").read_text()) == {
        "repository": REPOSITORY,
        "revision": REVISION,
        "file": "model.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    asked = f"/{REPOSITORY}/resolve/{REVISION}/model.safetensors"
    assert hub.tokens[asked] == {f"Bearer {TOKEN}"}
    assert hub.tokens[asked.replace("resolve", "elsewhere")] == {None}  # the token is for the Hub alone
    backbone = build(backbone_spec(NAME), tmp_path / "w", (64, 64))
    assert torch.equal(backbone.net.conv1[0].weight, state["conv1.0.weight"])

    hub.requests.clear()
    assert fetch(NAME).stdout == f"{path}: was there\n"
    assert hub.requests == []


def test_an_interrupted_download_goes_on_where_it_stopped(hub, fetch, published, tmp_path):
    content, _ = published
    hub.repositories[REPOSITORY] = {"model.safetensors": content}
    path = tmp_path / "w" / "timm" / "test_resnet.r160_in1k" / "model.safetensors"
    path.parent.mkdir(parents=True)
    url = f"{hub.url}/{REPOSITORY}/resolve/{REVISION}/model.safetensors"
    partial = path.with_name("model.safetensors.partial")
    partial.write_bytes(content[:50_000])
    note = {"url": url, "validator": f'"{hashlib.sha256(content).hexdigest()}"', "length": len(content)}
    partial.with_name(partial.name + ".json").write_text(json.dumps(note))
    done = fetch(NAME)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == content
    asked = [span for method, where, span in hub.requests if method == "GET" and where.startswith(f"/{REPOSITORY}")]
    assert set(asked) == {"bytes=50000-"}
    assert not list(path.parent.glob("*.partial*"))


def test_a_repository_may_have_a_torch_file_instead(hub, fetch, published, tmp_path):
    _, state = published
    torch.save(state, tmp_path / "other.bin")
    hub.repositories[REPOSITORY] = {"pytorch_model.bin": (tmp_path / "other.bin").read_bytes()}
    assert fetch(NAME).returncode == 0
    assert build(backbone_spec(NAME), tmp_path / "w", (64, 64)).feature_dim == backbone_spec(NAME).feature_dim


def test_without_a_hub_the_error_says_which_file_goes_where(fetch, tmp_path):
    done = fetch(NAME, url="http://127.0.0.1:9")
    assert_one_line_error(
        done,
        f"http://127.0.0.1:9/{REPOSITORY}/resolve/main/model.safetensors",
        f"put it at {tmp_path / 'w' / 'timm' / 'test_resnet.r160_in1k' / 'model.safetensors'}",
    )


def test_a_repository_without_the_file(hub, fetch):
    hub.repositories[REPOSITORY] = {"README.md": b""}
    assert_one_line_error(fetch(NAME), "the repository does not have it", "by other means")


def test_what_is_not_on_the_hub_says_where_it_comes_from(tmp_path):
    with pytest.raises(InvalidInput, match=r"not on the Hugging Face Hub: .* github:akamaster/pytorch_resnet_cifar10"):
        download("resnet20.cifar10", tmp_path, Silent())


def test_random_weights_have_no_file(tmp_path):
    with pytest.raises(InvalidInput, match="random weights"):
        download("tiny_2d.scratch", tmp_path, Silent())


def test_the_command_alone_lists_backbones_and_portfolios(command, tmp_path):
    alone = command("corpus-builder", "backbones", "--weights-root", tmp_path)
    assert alone.returncode == 0
    assert "resnet18.scratch" in alone.stdout
    assert "timm:" not in alone.stdout
    listed = command("corpus-builder", "backbones", "--portfolio", "quicktun")
    assert_one_line_error(listed, "unknown portfolio 'quicktun'", "quicktune")
