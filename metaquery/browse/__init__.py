"""A local page to look at a corpus: datasets, backbones, learning curves and trials, with the SQL behind each view."""

from metaquery.browse.server import serve

__all__ = ["serve"]
