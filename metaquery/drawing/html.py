"""Pages that need nothing else: one HTML file with its style and script, and a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from metaquery.drawing.theme import stylesheet

_HERE = Path(__file__).parent


def render(folder: Path, **values: Any) -> str:
    """The template `page.html` of `folder`, given `values` and three more.

    `style` is the theme, the style of tips and `page.css` of `folder`; `script` is that of tips and its `page.js`;
    `script_hash` is what the page's policy allows.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _text(_HERE / "tips.js", folder / "page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        style=Markup(stylesheet() + _text(_HERE / "tips.css", folder / "page.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        **values,
    )


def _text(*paths: Path) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in paths)
