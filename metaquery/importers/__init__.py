"""Importers: learning curves that others made, as corpora on which every command works.

One module per format, and the module's name is the format: `read(path)` turns the files into a `Source`. Adding a
format is adding one module.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

from metaquery.errors import InvalidInput, UnknownName

__all__ = ["import_corpus", "import_formats"]


def import_formats() -> list[str]:
    """The formats that can be imported, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def import_corpus(form: str, path: str | Path, out: str | Path) -> tuple[str, ...]:
    """Write the corpus `out` of the files of format `form` at `path`.

    Returns what was dropped, flagged or assumed, in sentences; the same are in the manifest, under `imported`. Raises
    UnknownName for another format, InvalidInput or InvalidData where the files are not of the format; then nothing is
    left behind.
    """
    from metaquery.importers._write import write

    if form not in import_formats():
        raise UnknownName.of("import format", form, import_formats())
    place = Path(path)
    if not place.exists():
        raise InvalidInput(f"{place} does not exist: give the path of the files to import")
    return write(import_module(f"{__name__}.{form}").read(place), form, Path(out))
