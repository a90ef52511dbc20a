"""Rows of the table `backbones`, and the listing for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpus_builder.backbones.registry import member_names, member_spec
from corpus_builder.backbones.spec import BackboneSpec, ClassicalSpec


def backbone_row(name: str, size: tuple[int, ...], weights_root: Path | None = None) -> dict[str, Any]:
    """The row of `name` for inputs of the spatial shape `size`; its FLOPs are counted on the meta device.

    The hash of weights without a published one is that of the file below `weights_root`, and null without a root.
    """
    from corpus_builder.backbones.work import forward_work

    spec = member_spec(name)
    if isinstance(spec, ClassicalSpec):
        return _classical_row(spec, size)
    net, work = forward_work(spec, size)
    weights = spec.weights
    return {
        "backbone": name,
        "family": spec.family,
        "n_dims": spec.n_dims,
        "parameters": sum(p.numel() for p in net.parameters()),
        "flops": work.flops,
        "input_shape": [spec.in_channels, *size],
        "pretrained_on": weights.pretrained_on if weights else None,
        "weights_sha256": _sha256(spec, weights_root),
        "licence": weights.licence if weights else spec.licence,
        "source": weights.source if weights else spec.source,
    }


def _classical_row(spec: ClassicalSpec, size: tuple[int, ...]) -> dict[str, Any]:
    return {
        "backbone": spec.name,
        "family": spec.family,
        "n_dims": spec.n_dims,
        "parameters": None,
        "flops": None,
        "input_shape": [1, *size],
        "pretrained_on": None,
        "weights_sha256": None,
        "licence": spec.licence,
        "source": spec.source,
    }


def _sha256(spec: BackboneSpec, weights_root: Path | None) -> str | None:
    from corpus_builder.backbones.weights import file_sha256, weights_path

    if spec.weights is None:
        return None
    if spec.weights.sha256:
        return spec.weights.sha256
    return file_sha256(weights_path(spec, weights_root)) if weights_root else None


def listing(weights_root: Path | None, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Name, dims, parameters, pretraining, licence of every backbone, and whether its weights are present.

    `names` limits it to these.
    """
    from corpus_builder.backbones.weights import find_file

    rows = []
    for name in member_names() if names is None else names:
        spec = member_spec(name)
        if isinstance(spec, ClassicalSpec):
            no_network = {"parameters": "-", "pretrained on": "no network", "licence": spec.licence}
            rows.append({"backbone": name, "dims": spec.n_dims, **no_network, "weights present": "-"})
            continue
        if spec.weights is None:
            present = "-"
        else:
            found = weights_root is not None and find_file(spec.weights, weights_root) is not None
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
