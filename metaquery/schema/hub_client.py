"""The Hugging Face Hub as both packages use it: names of repositories, patience, and errors in one line.

huggingface_hub itself finds the endpoint (HF_ENDPOINT) and the token (HF_TOKEN, or that of `hf auth login`); nothing
here reads, prints or stores a token.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from metaquery.errors import CorpusError, InvalidInput

SCHEME = "hf://"

_NAME = re.compile(r"hf://datasets/([\w][\w.-]*/[\w][\w.-]*?)(?:@([\w][\w./-]*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_RETRIED = (408, 429, 500, 502, 503, 504)
_ATTEMPTS = 6
_ATTEMPTS_UNREACHED = 3  # without a network there is nothing to wait for
_LONGEST_WAIT = 300.0  # seconds

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HubName:
    """A dataset repository on the Hub, at a branch, tag or commit, or at its main branch where `revision` is None."""

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubName:
        """The name in `text`; raises InvalidInput unless it is `hf://datasets/ORG/NAME` or `...@REVISION`."""
        found = _NAME.fullmatch(text)
        if found is None:
            raise InvalidInput(f"{text!r} is not a dataset on the Hub: expected hf://datasets/ORG/NAME or ...@REVISION")
        return cls(*found.groups())

    def __str__(self) -> str:
        return f"{SCHEME}datasets/{self.repo}" + (f"@{self.revision}" if self.revision else "")

    @property
    def commit(self) -> str | None:
        """The revision, where it is a whole commit hash, which never moves."""
        return self.revision if self.revision and _COMMIT.fullmatch(self.revision) else None


class Patience:
    """Waits between attempts at something that may fail for a while; what was done in between starts it afresh."""

    def __init__(self) -> None:
        self._failures = 0

    def renew(self) -> None:
        """Forget the failures so far."""
        self._failures = 0

    def wait(self, error: Exception) -> None:
        """Sleep as long as the Hub asks for, or else twice as long as before; raises `error` when it is no use."""
        attempts, asked = _worth(error)
        self._failures += 1
        if self._failures >= attempts:
            raise error
        time.sleep(min(max(asked, 0.5 * 2.0**self._failures), _LONGEST_WAIT))


def patiently(call: Callable[[], T], patience: Patience | None = None) -> T:
    """What `call` returns, tried again where the Hub is busy or the connection is lost."""
    patience = patience or Patience()
    while True:
        try:
            return call()
        except Exception as error:
            patience.wait(error)


@contextmanager
def hub_errors(name: HubName) -> Iterator[None]:
    """Turn the errors of huggingface_hub and of the network into one line."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise CorpusError(f"{name} needs an access that you must ask for on its page, then  hf auth login") from None
    except errors.RepositoryNotFoundError:
        raise InvalidInput(f"{name}: no such dataset on the Hub, or it is private: run  hf auth login") from None
    except errors.RevisionNotFoundError:
        raise InvalidInput(f"{name}: the dataset has no such revision: give a branch, tag or commit") from None
    except errors.EntryNotFoundError:
        raise CorpusError(f"{name} is not a corpus, or not whole: a file is missing on the Hub") from None
    except errors.OfflineModeIsEnabled:
        raise CorpusError(f"{name} was not pulled, and HF_HUB_OFFLINE forbids the network: unset it and pull") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise CorpusError(f"{name}: the Hub refuses ({status}): run  hf auth login  with a token for it") from None
        raise CorpusError(f"{name}: the Hub answers {status}: try again later, finished files are kept") from None
    except _network_errors() as error:
        raise CorpusError(
            f"{name}: the Hub cannot be reached ({type(error).__name__}): try again later, finished files are kept"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and advice from huggingface_hub."""
    from huggingface_hub import utils

    hub: Any = utils  # it exports most of this by hand
    level, hidden = hub.logging.get_verbosity(), hub.are_progress_bars_disabled()
    hub.logging.set_verbosity_error()
    hub.disable_progress_bars()
    try:
        yield
    finally:
        hub.logging.set_verbosity(level)
        if not hidden:
            hub.enable_progress_bars()


def _worth(error: Exception) -> tuple[int, float]:
    """How many attempts in all make sense after `error`, and the seconds to wait at least before the next."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        asked = error.response.headers.get("Retry-After", "")
        return _ATTEMPTS if error.response.status_code in _RETRIED else 1, float(asked) if asked.isdigit() else 0.0
    lost = isinstance(error, _network_errors()) and not isinstance(error, OfflineModeIsEnabled)
    return _ATTEMPTS_UNREACHED if lost else 1, 0.0


def _network_errors() -> tuple[type[Exception], ...]:
    """What the HTTP library that huggingface_hub uses raises where a connection fails."""
    import importlib

    from huggingface_hub import get_session

    library: Any = importlib.import_module(type(get_session()).__module__.split(".")[0])
    return (library.TransportError, ConnectionError)
