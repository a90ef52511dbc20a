"""DyHPO (Wistuba et al., NeurIPS 2022): Quick-Tune without what it learned from other datasets and without costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from metaquery.optimizers.quicktune import Quicktune


class Dyhpo(Quicktune):
    """Freeze-thaw by expected improvement on a deep-kernel Gaussian process that reads the curve so far."""

    name = "dyhpo"
    needs_history = False
    defaults: ClassVar[Mapping[str, Any]] = {"grey_box": True, "refit": "warm"}
    fixed: ClassVar[Mapping[str, Any]] = {"meta": False, "cost": False, "metafeatures": False}
