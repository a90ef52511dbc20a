"""Where what can be made again is kept: MEDCURVES_CACHE, else XDG_CACHE_HOME/medcurves, else ~/.cache/medcurves."""

from __future__ import annotations

import os
from pathlib import Path

from metaquery.errors import InvalidInput


def cache_directory() -> Path:
    """Directory of all that is cached; raises InvalidInput where the user has no home directory."""
    if given := os.environ.get("MEDCURVES_CACHE"):
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medcurves"
    except RuntimeError as error:
        raise InvalidInput("there is no home directory for the cache: set MEDCURVES_CACHE to a directory") from error
