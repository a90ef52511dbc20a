"""The server behind the page: who it answers, what it refuses, and that queries have limits."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import assert_one_line_error

import metaquery as mq
from metaquery.browse.answers import MAX_ROWS, Answers, answer
from metaquery.browse.server import PageServer
from metaquery.errors import InvalidInput


@pytest.fixture(scope="module")
def server(corpus_path: Path) -> Iterator[PageServer]:
    with PageServer(str(corpus_path), 0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def request(
    server: PageServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def ask(server: PageServer, sql: str) -> tuple[int, bytes]:
    body = json.dumps({"sql": sql}).encode()
    response, content = request(server, "POST", "/sql", body, Content_Type="application/json")
    return response.status, content


def test_the_page_may_load_nothing_but_its_own_files(server: PageServer) -> None:
    for path, kind in {"/": "text/html", "/browse.js": "text/javascript", "/corpus.json": "application/json"}.items():
        response, content = request(server, "GET", path)
        assert (response.status, response.getheader("Content-Type")) == (200, f"{kind}; charset=utf-8")
        policy = response.getheader("Content-Security-Policy") or ""
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert response.getheader("Access-Control-Allow-Origin") is None
        assert content


@pytest.mark.parametrize("path", ["/../server.py", "/server.py", "/corpus.json/", "//etc/passwd", "/trials.parquet"])
def test_no_other_file_is_served(server: PageServer, path: str) -> None:
    assert request(server, "GET", path)[0].status == 404


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_rebound_name_and_another_site_are_refused(server: PageServer, method: str) -> None:
    port = server.server_port
    body = b'{"sql": "select 1"}' if method == "POST" else None
    path = "/sql" if method == "POST" else "/corpus.json"
    typed = {"Content_Type": "application/json"}
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}"},
        {"Host": "127.0.0.1"},  # another service's page
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ):
        response, content = request(server, method, path, body, **typed, **headers)
        assert response.status == 403
        assert b"alpha" not in content
    for headers in ({"Host": f"localhost:{port}"}, {"Origin": f"http://127.0.0.1:{port}"}):
        assert request(server, method, path, body, **typed, **headers)[0].status == 200


def test_only_queries_can_be_posted_and_nothing_else_done(server: PageServer) -> None:
    typed = {"Content_Type": "application/json"}
    assert request(server, "POST", "/", b"{}", **typed)[0].status == 405
    assert request(server, "POST", "/elsewhere", b"{}", **typed)[0].status == 404
    assert request(server, "POST", "/sql", b'{"sql": "select 1"}', Content_Type="text/plain")[0].status == 415
    assert request(server, "POST", "/sql", b" " * (1 << 17), **typed)[0].status == 413
    for body in (b"", b"[]", b"{", b'{"sql": 1}', b'{"query": "select 1"}', b"\xff"):
        assert request(server, "POST", "/sql", body, **typed)[0].status == 400
    for method in ("PUT", "DELETE", "OPTIONS"):
        assert request(server, method, "/sql", b"{}", **typed)[0].status == 501


def test_a_query_is_answered_as_the_corpus_answers_it(server: PageServer, corpus: mq.Corpus) -> None:
    sql = "select trial_id, max(val_auc) as auc, null as nothing from curves group by all order by auc desc, trial_id;"
    status, content = ask(server, sql)
    found = json.loads(content)
    assert status == 200
    assert found["columns"] == ["trial_id", "auc", "nothing"]
    assert [tuple(row.values()) for row in found["rows"]] == corpus.sql(sql).rows()
    assert found["cut"] is False


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("copy trials to '{there}'", "got COPY"),
        ("select 1) to '{there}'; copy (select 1", "SQL: "),
        ("select * from read_csv('/etc/hostname')", "Permission Error"),
        ("select 1; select 2", "got SELECT and SELECT"),
        ("selct 1", "syntax error"),
        ("select nothing from trials", '"nothing"'),
    ],
)
def test_what_is_wrong_comes_back_as_text(server: PageServer, tmp_path: Path, sql: str, words: str) -> None:
    there = tmp_path / "stolen.csv"
    status, content = ask(server, sql.format(there=there))
    assert status == 400
    assert words in content.decode()
    assert b"\n" not in content
    assert not there.exists()


def test_more_rows_than_the_limit_are_cut(corpus: mq.Corpus) -> None:
    for sql, n, cut in (
        ("select 1 as a, 2 as a from range(100_000_000_000)", MAX_ROWS, True),
        (f"from range({MAX_ROWS})", MAX_ROWS, False),
        ("select 1 -- a comment", 1, False),
        ("select 1; -- a comment", 1, False),
        ("from (pivot datasets on n_dims using count(*)) limit 1", 1, False),
    ):
        found = json.loads(answer(corpus, sql))
        assert (len(found["rows"]), found["cut"]) == (n, cut), sql
    assert json.loads(answer(corpus, "explain select 1"))["columns"] == ["explain_key", "explain_value"]


def test_a_query_that_takes_too_long_is_stopped_and_the_next_one_answered(corpus_path: Path) -> None:
    answers = Answers(str(corpus_path), seconds=60)
    try:
        answers.ask("select 1")
        answers._seconds = 0.5
        with pytest.raises(InvalidInput, match=r"stopped after 0.5 s: .*metaquery sql"):
            answers.ask("select sum(a.range * b.range) from range(10_000_000) a, range(10_000_000) b")
        answers._seconds = 60
        assert json.loads(answers.ask("select 7 as x"))["rows"] == [{"x": 7}]
        answers._process.kill()  # as the kernel does where memory is short
        with pytest.raises(InvalidInput, match="has died"):
            answers.ask("select 1")
        assert json.loads(answers.ask("select 8 as x"))["rows"] == [{"x": 8}]
    finally:
        answers.close()


def test_ctrl_c_stops_it_and_frees_the_port(corpus_path: Path) -> None:
    line = [str(Path(sys.executable).with_name("metaquery")), "browse", str(corpus_path), "--port", "0"]
    process: subprocess.Popen[str] = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    address = process.stdout.readline().split(" is at ")[1].split()[0]
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "stopped\n", "")
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_port_that_cannot_be_had(corpus_path: Path, command: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_one_line_error(command("metaquery", "browse", corpus_path, "--port", port), f"port {port} is in use")
    with pytest.raises(InvalidInput, match="from 0 to 65535, got 65536"):
        PageServer(str(corpus_path), 65536)
    assert_one_line_error(command("metaquery", "browse", "minni"), "did you mean mini")
