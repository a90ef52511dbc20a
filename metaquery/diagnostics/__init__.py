"""What a corpus is like as a benchmark: how its curves behave, what is noise, what matters, what it cost."""

from __future__ import annotations

from metaquery.diagnostics.diagnosis import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
