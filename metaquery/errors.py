"""Every error the two packages raise on purpose, and the one place where it becomes a line and an exit code.

MedCurvesError
├── InvalidInput (ValueError)         a name, value, file or option that cannot be used
│   ├── UnknownName (KeyError)        a dataset, backbone, optimizer, metric, trial ... that does not exist
│   ├── InvalidConfig                 a configuration outside its search space
│   ├── InvalidCard                   a data card that does not define a dataset
│   └── InvalidData                   a data file that contradicts its card
├── CorpusError (OSError)             a directory that is not a sound, sealed corpus
├── LeakageError (ValueError)         a protocol or split that would let test information into training
├── OptimizerError (RuntimeError)     an optimizer used against its contract
├── MissingExtra (ImportError)        an optional dependency that is not installed
└── Interrupted (RuntimeError)        work that stopped before its end, with what is finished kept

A message says what was expected, what came, and what to do next, in one line.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class MedCurvesError(Exception):
    """Base of all errors raised on purpose."""

    def __str__(self) -> str:  # KeyError would print its repr, quotes and all
        return str(self.args[0]) if self.args else type(self).__name__


class InvalidInput(MedCurvesError, ValueError):
    """A name, value, file or option that cannot be used."""


class UnknownName(InvalidInput, KeyError):
    """A name that is not among the known ones."""

    @classmethod
    def of(cls, kind: str, name: object, known: Iterable[str], *, hint: str = "") -> UnknownName:
        """Build the error for `name`, naming the closest known names (or all, when few)."""
        names = sorted(known)
        close = difflib.get_close_matches(str(name), names, n=3)
        if close:
            expected = f"did you mean {' or '.join(close)}?"
        elif names:
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            expected = f"expected one of: {shown}"
        else:
            expected = "there is none to choose from"
        return cls(f"unknown {kind} {str(name)!r}: {expected}{'; ' + hint if hint else ''}")


class InvalidConfig(InvalidInput):
    """A configuration outside its search space."""


class InvalidCard(InvalidInput):
    """A data card that does not define a dataset."""


class InvalidData(InvalidInput):
    """A data file that contradicts its card."""


class CorpusError(MedCurvesError, OSError):
    """A directory that is not a sound, sealed corpus."""


class LeakageError(MedCurvesError, ValueError):
    """A protocol or split that would let test information into training."""


class OptimizerError(MedCurvesError, RuntimeError):
    """An optimizer used against its contract."""


class MissingExtra(MedCurvesError, ImportError):
    """An optional dependency that is not installed."""

    @classmethod
    def of(cls, package: str, extra: str) -> MissingExtra:
        """Build the error for a missing `package` that the extra `extra` brings."""
        return cls(f"{package} is not installed: run  pip install 'medcurves[{extra}]'")


class Interrupted(MedCurvesError, RuntimeError):
    """Work that stopped before its end, with what is finished kept."""


def run_cli(command: click.Command) -> None:
    """Run a click command so that every expected error is one line on stderr and exit code 2.

    Unexpected exceptions keep their traceback: they are bugs, and hiding them would hide where.
    """
    import click as _click

    try:
        status = command.main(standalone_mode=False)
    except _click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        sys.exit(EXIT_BAD_INPUT)
    except _click.ClickException as error:
        message = " ".join(error.format_message().split())
        context = getattr(error, "ctx", None)
        see = f" (see {context.command_path} --help)" if context else ""
        print(f"error: {message}{see}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except _click.Abort:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except Interrupted as error:
        print(f"stopped: {error}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except MedCurvesError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        sys.stderr.close()
        sys.exit(0)
    sys.exit(status if isinstance(status, int) else 0)
