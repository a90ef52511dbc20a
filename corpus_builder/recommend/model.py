"""A trained model as files: its tensors (safetensors), what it is built from (JSON), and its card (Markdown)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from corpus_builder.backbones import backbone_spec
from metaquery.errors import InvalidInput
from metaquery.space import Config

if TYPE_CHECKING:
    import torch

    from corpus_builder.recipe import Classifier
    from corpus_builder.recommend.trainer import Best, Trainer
    from corpus_builder.train.records import Part

TENSORS, DESCRIPTION, CARD = "model.safetensors", "config.json", "README.md"


def write_model(trainer: Trainer, best: Best, out: Path, facts: Mapping[str, str]) -> dict[str, float]:
    """Write `best` into the directory `out`, and say what it gives when it is read from there again."""
    from safetensors.torch import save

    card, data = trainer.card, trainer.data
    description = {
        "classes": list(card.classes),
        "channels": card.channels,
        "size": list(data.train.images.shape[2:]),
        "config": dict(best.config),
        "epoch": best.epoch,
        "epochs_planned": trainer.epochs,
        "dataset": card.name,
    }
    (out / TENSORS).write_bytes(save(best.tensors, metadata={"format": "pt"}))
    (out / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    model = load_model(out)
    metrics: dict[str, float] = {}
    for split, part in (("val", data.val), ("test", data.test)):
        metrics |= metrics_of(model, best.config, part, split, trainer.device)
    (out / CARD).write_text(_card(trainer, best, metrics, facts), encoding="utf-8")
    return metrics


def load_model(directory: Path) -> Classifier:
    """The model in `directory`, as `write_model` left it; only tensors and JSON are read. Raises InvalidInput where it
    is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from corpus_builder.recipe import Classifier
    from corpus_builder.recipe.stochastic import with_stochastic_norm

    try:
        description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
        config, n_classes = Config(description["config"]), len(description["classes"])
        backbone = backbone_spec(str(config["backbone"])).build_for(tuple(description["size"]))
        model = Classifier(backbone, n_classes, float(config["dropout"]))
        if (p := float(config.get("stochastic_norm", 0.0))) > 0:
            with_stochastic_norm(model.backbone, p)
        model.load_state_dict(load_file(directory / TENSORS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidInput(f"{directory} holds no model of  metaquery recommend --live  ({reason})") from error
    return model.eval()


def metrics_of(model: Classifier, config: Config, part: Part, split: str, device: torch.device) -> dict[str, float]:
    """Every defined metric of `model` on `part`, as SPLIT_METRIC."""
    from corpus_builder.train.evaluate import Resident, evaluate, predict

    probabilities = predict(model.to(device), Resident(part, device), backbone_spec(str(config["backbone"])))
    found = evaluate(part.labels, probabilities, split)
    return {name: value for name, value in found.items() if value is not None}


def _card(trainer: Trainer, best: Best, metrics: Mapping[str, float], facts: Mapping[str, str]) -> str:
    data, card, spec = trainer.data, trainer.card, backbone_spec(str(best.config["backbone"]))
    weights = spec.weights
    counts = ", ".join(f"{len(getattr(data, role).labels)} {role}" for role in ("train", "val", "test"))
    names = sorted({name.partition("_")[2] for name in metrics})
    rows = [
        f"| {name} | {_number(metrics.get(f'val_{name}'))} | {_number(metrics.get(f'test_{name}'))} |" for name in names
    ]
    sections = [
        f"---\n{yaml.safe_dump(_front(trainer, metrics), sort_keys=False)}---",
        f"# {card.title}: {spec.name}, fine-tuned",
        "## Intended use",
        f"Research on {card.title} ({', '.join(card.classes)}). Not for clinical use: it was tested on one held-out "
        "part of one dataset, and on nothing from elsewhere.",
        "## Data",
        f"{card.title} (`{card.name}`), {counts} images at {'x'.join(map(str, data.train.images.shape[2:]))}, first "
        f"split of kind {card.split.kind}. Source: {card.source}. Citation: {card.citation}",
        "## Metrics",
        "\n".join(["| metric | validation | test |", "| --- | --- | --- |", *rows]),
        f"Config and epoch were chosen by the validation {trainer.metric.name}, so the values on validation are too "
        "good; the test part was used for nothing but this table. The values are those of the files here, read again.",
        "## Training",
        f"Epoch {best.epoch} of a schedule of {trainer.epochs} epochs; {trainer.seconds:.0f} s of training in all.",
        "\n".join(f"- {name}: {value}" for name, value in facts.items()),
        f"```yaml\n{yaml.safe_dump(dict(best.config), sort_keys=True)}```",
        "## Licences",
        f"- images: {card.licence}\n- code of the backbone: {spec.licence} ({spec.source})\n- pretrained weights: "
        + ("none" if weights is None else f"{weights.licence} ({weights.source}); trained on {weights.pretrained_on}"),
        "These decide how the model may be used; nobody has checked whether they go together.",
        "## Limits",
        "Other scanners, hospitals, patients and class frequencies than those of the dataset were not tried. "
        "Probabilities are not calibrated (see `ece`). Images must be prepared as in training: 8 bits, resized to the "
        "size above.",
        "## Files",
        f"`{TENSORS}` has the tensors, `{DESCRIPTION}` what they belong to; "
        "`corpus_builder.recommend.model.load_model(directory)` builds the model.",
    ]
    return "\n\n".join(sections) + "\n"


def _front(trainer: Trainer, metrics: Mapping[str, float]) -> dict[str, Any]:
    card = trainer.card
    task = {"type": "image-classification", "name": "Image classification"}
    dataset = {"type": card.name, "name": card.title, "split": "test"}
    values = [
        {"type": name.removeprefix("test_"), "value": value}
        for name, value in sorted(metrics.items())
        if name.startswith("test_")
    ]
    return {
        "license": "other",
        "license_name": "see-the-card",
        "library_name": "medcurves",
        "pipeline_tag": "image-classification",
        "tags": ["medical", "medcurves", card.modality],
        "metrics": [value["type"] for value in values],
        "model-index": [
            {"name": card.name, "results": [{"task": task, "dataset": dataset, "metrics": values}]},
        ],
    }


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"
