"""Rows of the table `backbones`, and the listing for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corpus_builder.backbones.registry import backbone_names, backbone_spec


def backbone_row(name: str, size: tuple[int, ...]) -> dict[str, Any]:
    """The row of `name` for inputs of the spatial shape `size`; its FLOPs are counted on the meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    spec = backbone_spec(name)
    with torch.device("meta"):
        net = spec.build().eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            net(torch.empty(1, spec.in_channels, *size))
    weights = spec.weights
    return {
        "backbone": name,
        "family": spec.family,
        "n_dims": spec.n_dims,
        "parameters": spec.parameters,
        "flops": counter.get_total_flops(),
        "input_shape": [spec.in_channels, *size],
        "pretrained_on": weights.pretrained_on if weights else None,
        "weights_sha256": weights.sha256 if weights else None,
        "licence": weights.licence if weights else spec.licence,
        "source": weights.source if weights else spec.source,
    }


def listing(weights_root: Path | None) -> list[dict[str, Any]]:
    """Name, dims, parameters, pretraining, licence of every backbone, and whether its weights are present."""
    rows = []
    for name in backbone_names():
        spec = backbone_spec(name)
        if spec.weights is None:
            present = "-"
        else:
            found = weights_root is not None and (weights_root / spec.weights.file).is_file()
            present = "yes" if found else "no"
        rows.append(
            {
                "backbone": name,
                "dims": spec.n_dims,
                "parameters": f"{spec.parameters:,}",
                "pretrained on": spec.weights.pretrained_on if spec.weights else "random weights",
                "licence": spec.weights.licence if spec.weights else spec.licence,
                "weights present": present,
            }
        )
    return rows
