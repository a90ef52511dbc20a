"""The one theme of all pages and figures: colours by name, by day, by night and on paper, and the rules of type."""

from __future__ import annotations

from pathlib import Path

# Okabe and Ito's hues but for yellow, which is lost on white; the ink takes its place. Each has its dashes for print.
COLOURS = {
    "ink": "#1c2733",
    "soft": "#5a6876",
    "faint": "#d9dfe5",
    "card": "#ffffff",
    "series-0": "#0072b2",
    "series-1": "#d55e00",
    "series-2": "#009e73",
    "series-3": "#cc79a7",
    "series-4": "#e69f00",
    "series-5": "#56b4e9",
    "series-6": "#1c2733",
}
_LIGHT = COLOURS | {"page": "#f6f7f9", "accent": "#0b5cad", "stripe": "#f2f5f8", "wrong": "#a8201a"}
_DARK = {
    "ink": "#e4e9ee",
    "soft": "#9dabb9",
    "faint": "#36414d",
    "card": "#1a2129",
    "series-0": "#3d9bdc",
    "series-1": "#f5803a",
    "series-2": "#2bbd8e",
    "series-3": "#d98bb8",
    "series-4": "#e9ac2b",
    "series-5": "#8fd0f5",
    "series-6": "#e4e9ee",
    "page": "#12171d",
    "accent": "#79b8ff",
    "stripe": "#202933",
    "wrong": "#ff8a80",
}
_PAPER = {"page": "#ffffff", "stripe": "#ffffff"}
_THEMES = (
    ("all", _LIGHT),
    ("screen and (prefers-color-scheme: dark)", _DARK),
    ("print", _PAPER),
)


def stylesheet() -> str:
    """The colours as custom properties, `--ink` and so on, and the rules that all pages share."""
    themes = [
        f"@media {media} {{ :root {{ {' '.join(f'--{name}: {value};' for name, value in colours.items())} }} }}"
        for media, colours in _THEMES
    ]
    return "\n".join([*themes, (Path(__file__).parent / "theme.css").read_text(encoding="utf-8")])
