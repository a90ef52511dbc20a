"""The errors: the tree that is drawn, what a message says, and the one place where they end a command."""

from __future__ import annotations

import inspect
import re

import click
import pytest

from metaquery import errors
from metaquery.errors import InvalidInput, MedCurvesError, MissingExtra, UnknownName, run_cli


def drawn_tree() -> dict[str, tuple[str | None, str | None]]:
    """Parent and built-in base of every error in the module's drawing."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([│ ├└─]*)([A-Z]\w+)(?: \((\w+)\))?(?:  |$)", line)
        if match:
            depth = len(match[1]) // 4
            path = [*path[:depth], match[2]]
            tree[match[2]] = (path[-2] if depth else None, match[3])
    return tree


def test_drawing_is_the_classes() -> None:
    classes = {
        name: cls
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, MedCurvesError) and cls.__module__ == errors.__name__
    }
    drawn = drawn_tree()
    assert set(drawn) == set(classes)
    for name, (parent, builtin) in drawn.items():
        bases = [base.__name__ for base in classes[name].__bases__]
        assert bases == [base for base in (parent or "Exception", builtin) if base], name
        if builtin:
            assert issubclass(classes[name], getattr(__builtins__, builtin, None) or __builtins__[builtin])


def test_messages_are_plain_text() -> None:
    assert str(UnknownName("no 'x'")) == "no 'x'"  # KeyError alone would print its repr
    assert str(MedCurvesError()) == "MedCurvesError"


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("alhpa", ["alpha", "beta"], "unknown dataset 'alhpa': did you mean alpha?"),
        ("x", ["beta", "alpha"], "unknown dataset 'x': expected one of: alpha, beta"),
        ("x", [], "unknown dataset 'x': there is none to choose from"),
        (7, ["alpha"], "unknown dataset '7': expected one of: alpha"),
    ],
)
def test_unknown_names(name: object, known: list[str], message: str) -> None:
    assert str(UnknownName.of("dataset", name, known)) == message


def test_unknown_names_do_not_list_hundreds() -> None:
    text = str(UnknownName.of("dataset", "zz", (f"name{i:03d}" for i in range(500))))
    assert text.endswith("name019, ...")
    assert str(UnknownName.of("dataset", "x", ["a"], hint="see --help")).endswith("; see --help")


def test_missing_extra_says_what_to_run() -> None:
    error = MissingExtra.of("dehb", "dehb")
    assert isinstance(error, ImportError)
    assert str(error) == "dehb is not installed: run  pip install 'medcurves[dehb]'"


@click.group()
def command() -> None:
    """A command to fail in every way."""


@command.command()
@click.argument("how")
def fail(how: str) -> None:
    if how == "input":
        raise InvalidInput("expected a, got b: do c")
    if how == "pipe":
        raise BrokenPipeError
    if how == "interrupt":
        raise click.Abort
    if how == "bug":
        raise ZeroDivisionError("a bug")
    if how == "status":
        raise SystemExit(1)


@pytest.mark.parametrize(
    ("arguments", "code", "err"),
    [
        (["fail", "input"], 2, "error: expected a, got b: do c\n"),
        (["fail", "interrupt"], 130, "interrupted\n"),
        (["fail", "status"], 1, ""),
        (["fail", "nothing"], 0, ""),
    ],
)
def test_commands_end_in_one_line(
    arguments: list[str], code: int, err: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["command", *arguments])
    with pytest.raises(SystemExit) as caught:
        run_cli(command)
    assert caught.value.code == code
    assert capsys.readouterr().err == err


@pytest.mark.parametrize("arguments", [["nope"], ["fail"], ["fail", "a", "b"], ["fail", "--wrong", "a"]])
def test_wrong_usage_is_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["command", *arguments])
    with pytest.raises(SystemExit) as caught:
        run_cli(command)
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert "--help" in text


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["command", "fail", "bug"])
    with pytest.raises(ZeroDivisionError):
        run_cli(command)
