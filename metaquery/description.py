"""What a corpus holds, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

_TABLES = {
    "datasets": """
        select dataset, modality, body_part, n_dims as dims, n_classes as classes, n_samples as samples, family,
               count(trial_id) as trials, licence
        from datasets left join trials using (dataset) group by all order by dataset""",
    "backbones": """
        select backbone, n_dims as dims, parameters, pretrained_on, licence
        from backbones order by dims, backbone""",
    "trials by status": """
        select status, count(*) as trials, sum(epochs_run) as epochs, round(sum(total_seconds) / 3600, 2) as hours
        from trials group by status order by trials desc, status""",
    "trials by design": """
        select design, count(distinct config_id) as configs, count(*) as trials, count(distinct seed) as seeds
        from trials join configs using (config_id) group by design order by design""",
}


def describe(corpus: Corpus) -> str:
    """Name, origin, size, datasets, backbones, trials and devices of `corpus`."""
    lines = [*heading(corpus), *contents(corpus)]
    if corpus.imported:
        notes = corpus.manifest["imported"]["notes"]
        lines += ["", "dropped, flagged or assumed by the import", *(f"- {note}" for note in notes)]
    return "\n".join(lines)


def contents(corpus: Corpus) -> list[str]:
    """Datasets, backbones and trials, as tables; an empty line stands before each."""
    return [line for title, query in _TABLES.items() for line in ("", title, str(corpus.sql(query)))]


def heading(corpus: Corpus) -> list[str]:
    """Name, origin, size, epochs and cost of one corpus."""
    manifest = corpus.manifest
    size = sum(entry["bytes"] for entry in manifest["files"])
    hours = corpus.sql("select coalesce(sum(total_seconds), 0) / 3600 from trials").rows()[0][0]
    checkpoints = ", ".join(map(str, manifest["predictions"]["checkpoints"])) or "none"
    devices = ", ".join(manifest["devices"]) or ("devices unknown" if corpus.imported else "no device")
    return [
        f"{corpus.name} {corpus.version}  ({corpus.root})",
        f"hash         {corpus.hash}",
        f"{_origin(manifest)}, schema version {manifest['schema_version']}",
        f"size         {size / 1e6:.1f} MB in {len(manifest['files']) + 1} files",
        f"epochs       {corpus.epochs}; predictions at: {checkpoints}",
        f"curves       {_resolution(manifest)}",
        f"cost         {hours:.1f} hours on {devices}",
    ]


def _resolution(manifest: Mapping[str, Any]) -> str:
    if "curves" not in manifest:
        return "in single precision"
    absolute, relative = (manifest["curves"][name] for name in ("max_error", "max_relative_error"))
    return (
        f"metrics within {max(absolute.values()):.2g}, losses within {relative['loss']:.2g} and seconds within "
        f"{relative['seconds']:.2g} of their value"
    )


def _origin(manifest: Mapping[str, Any]) -> str:
    if "imported" in manifest:
        return f"imported     from {manifest['imported']['format']} by metaquery {manifest['builder_version']}"
    return f"sealed by    corpus_builder {manifest['builder_version']}"
