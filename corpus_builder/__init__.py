"""MedCurves, the writing side: fine-tune backbones on medical image datasets and seal the curves into a corpus."""

from metaquery import __version__

__all__ = ["__version__"]
