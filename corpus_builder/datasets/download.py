"""Download of one file over HTTP that goes on where it stopped, as a downloader of pooch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from corpus_builder import __version__
from metaquery.errors import InvalidInput

ATTEMPTS = 5  # in a row without a new byte
LONGEST_WAIT_SECONDS = 300.0
_TIMEOUT_SECONDS = 30.0
_BLOCK_BYTES = 2**18
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class AddressFailedError(Exception):
    """An address does not give the file; its text is the reason."""


class _TryAgainError(Exception):
    """An attempt that failed for the moment, and after how many seconds the server wants the next, if it says."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Begun(NamedTuple):
    """What a partial file is a part of: its address, the validator of that content and its length, if known."""

    url: str
    validator: str
    length: int | None


@dataclass
class ResumableDownload:
    """A downloader for `pooch.retrieve` that collects the content in `partial` and gives it to pooch once it is whole.

    A partial file of an earlier attempt, even of another process, is continued with a range request where the server
    confirms with an ETag or a date that the content is the same; else it starts again. Waits and tries again after
    cut connections and busy answers (429, 5xx), as long as Retry-After says. `progress` gets the bytes so far and the
    length or None; `say` gets lines for people. `token`, if any, is shown to the address alone, never to one that it
    redirects to.
    """

    partial: Path
    progress: Callable[[int, int | None], None]
    say: Callable[[str], None]
    token: str = field(default="", repr=False)

    @property
    def note(self) -> Path:
        """File beside `partial` that says what it is a part of."""
        return self.partial.with_name(self.partial.name + ".json")

    def __call__(self, url: str, output_file: str, _pooch: Any) -> None:
        """Download `url` to `output_file`.

        Raises AddressFailedError where the address does not give the file, InvalidInput where the disk is too full, and
        OSError where it cannot be written.
        """
        failures, furthest = 0, 0
        while True:
            try:
                self._attempt(url)
                break
            except _TryAgainError as error:
                failures = failures + 1 if self._size() <= furthest else 1
                furthest = max(furthest, self._size())
                wait = 2.0 ** (failures - 1) if error.wait is None else error.wait
                if failures == ATTEMPTS:
                    raise AddressFailedError(f"{error}, {ATTEMPTS} times in a row") from error
                if wait > LONGEST_WAIT_SECONDS:
                    raise AddressFailedError(f"{error}, and asks to wait {wait:.0f} s") from error
                self.say(f"{url}: {error}; trying again in {wait:.0f} s")
                sleep(wait)
        os.replace(self.partial, output_file)
        self.note.unlink()

    def _attempt(self, url: str) -> None:
        """Add to the partial file what is missing of `url`, or all of it."""
        begun = self._begun(url)
        kept = self._size() if begun else 0
        if begun and begun.length == kept:
            return
        headers = {"User-Agent": f"medcurves/{__version__}", "Accept-Encoding": "identity"}
        if begun and kept:
            headers |= {"Range": f"bytes={kept}-", "If-Range": begun.validator}
        with self._open(url, headers, reached=kept > 0) as response:
            if begun and kept and response.status == 206:
                self._check_range(response, kept, begun)
                length = begun.length
            else:
                kept, length = 0, _length(response)
                self._begin(_Begun(url, _validator(response.headers), length))
            self._require_space(length, kept)
            self._receive(response, kept, length)

    def _open(self, url: str, headers: dict[str, str], *, reached: bool) -> HTTPResponse:
        """The answer of `url`; `reached` says whether it has answered before."""
        try:
            request = Request(url, headers=headers)
            if self.token:
                request.add_unredirected_header("Authorization", f"Bearer {self.token}")
            response: HTTPResponse = urlopen(request, timeout=_TIMEOUT_SECONDS)
        except HTTPError as error:
            reason = f"{error.code} {error.reason}"
            error.close()
            if error.code == 416:  # the content is now shorter than what we have of it
                self.note.unlink(missing_ok=True)
                raise _TryAgainError(reason, 0) from error
            if error.code in _BUSY:
                raise _TryAgainError(reason, _retry_after(error.headers)) from error
            raise AddressFailedError(reason) from error
        except (ValueError, InvalidURL) as error:
            raise AddressFailedError(_in_words(error)) from error
        except URLError as error:  # no connection: offline, unless it has just worked
            failed = _TryAgainError if reached else AddressFailedError
            raise failed(_in_words(error.reason)) from error
        except (OSError, HTTPException) as error:
            raise _TryAgainError(_in_words(error)) from error
        return response

    def _check_range(self, response: HTTPResponse, kept: int, begun: _Begun) -> None:
        """Forget the partial file and try again unless `response` continues it."""
        start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        if start != str(kept) or _validator(response.headers) not in ("", begun.validator):
            self.note.unlink(missing_ok=True)
            raise _TryAgainError("the content has changed since the download began", 0)

    def _receive(self, response: HTTPResponse, kept: int, length: int | None) -> None:
        size = kept
        with self.partial.open("r+b") as partial:
            partial.seek(kept)
            partial.truncate()
            while True:
                self.progress(size, length)
                try:
                    block = response.read1(_BLOCK_BYTES)
                except (OSError, HTTPException) as error:
                    raise _TryAgainError(_in_words(error)) from error
                if not block:
                    break
                partial.write(block)
                size += len(block)
        if length is not None and size < length:
            raise _TryAgainError(f"the connection was cut after {size} of {length} bytes")

    def _require_space(self, length: int | None, kept: int) -> None:
        free = shutil.disk_usage(self.partial.parent).free
        if length is not None and length - kept > free:
            raise InvalidInput(
                f"{self.partial.parent}: the file needs {(length - kept) / 1e6:.1f} MB more and the disk has "
                f"{free / 1e6:.1f} MB free; make room or give another --data-root"
            )

    def _begin(self, begun: _Begun) -> None:
        """Empty the partial file and note what it will be a part of; in this order, an interruption does no harm."""
        self.note.unlink(missing_ok=True)
        self.partial.write_bytes(b"")
        self.note.write_text(json.dumps(begun._asdict()))

    def _begun(self, url: str) -> _Begun | None:
        """What the partial file is a part of; None where it cannot be continued from `url`."""
        try:
            begun = _Begun(**json.loads(self.note.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return begun if begun.url == url and begun.validator and self.partial.is_file() else None

    def _size(self) -> int:
        return self.partial.stat().st_size if self.partial.is_file() else 0


def _validator(headers: Message) -> str:
    """What tells one content of an address from another: a strong ETag, else the date of change, else nothing."""
    etag = str(headers.get("ETag", ""))
    return str(headers.get("Last-Modified", "")) if etag.startswith("W/") or not etag else etag


def _length(response: HTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _retry_after(headers: Message) -> float | None:
    """Seconds that the header Retry-After, a number or a date, asks to wait."""
    text = str(headers.get("Retry-After", ""))
    if text.isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _in_words(error: BaseException | str) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(reason).split())
