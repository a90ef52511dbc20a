"""`python -m corpus_builder.bench throughput`: how many trials an hour the engine trains, beside simpler ways.

The same trials (of the core grid), epochs, batches, recipe and metrics in three ways:

a  a plain loop, as one would write it: one trial after the other, a DataLoader that converts, augments and normalises
   images one at a time, frozen stages run again in every epoch, torch's own number of threads;
b  the package's single trainer, one trial after the other in one process, nothing kept;
c  the package's engine: on a CPU one single-threaded process per core, outputs of frozen stages kept; on a GPU fused
   trials.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter

import click
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from corpus_builder.backbones import backbone_spec
from corpus_builder.cli.options import data_root_option, print_table, weights_root_option
from corpus_builder.execute.work import load_study_data
from corpus_builder.recipe import Legal, Schedule, build_classifier, build_optimizer, set_rate, to_input
from corpus_builder.recipe.augmentation import draw
from corpus_builder.recipe.loss import cross_entropy
from corpus_builder.recipe.transformation import apply
from corpus_builder.space import repeated_parts, search_space
from corpus_builder.study import Study
from corpus_builder.train.calibration import Calibration, calibrate
from corpus_builder.train.device import mixed_precision, resolve_device
from corpus_builder.train.evaluate import BATCH, evaluate
from corpus_builder.train.fused import fusion_key, run_fused
from corpus_builder.train.records import Part, TrialData, TrialSpec
from corpus_builder.train.trial import run_trial
from metaquery.errors import InvalidInput, run_cli
from metaquery.space import Config
from metaquery.types import Status


@click.group()
def cli() -> None:
    """Benchmarks of the builder."""


@cli.command()
@click.option("--dataset", default="phantom_nodules3d", show_default=True, help="Name or path of a data card.")
@click.option("--backbone", "backbones", multiple=True, required=True, help="A backbone; may be repeated.")
@click.option("--side", default=64, show_default=True, help="Side of an image or volume.")
@click.option("--cap", default=400, show_default=True, help="Most samples of a role.")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Trials of each backbone, spread over the core grid.",
)
@click.option("--epochs", default=27, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes of the engine on a CPU."
)
@data_root_option
@weights_root_option
def throughput(
    dataset: str,
    backbones: tuple[str, ...],
    side: int,
    cap: int,
    trials: int,
    epochs: int,
    device: str,
    workers: int,
    data_root: Path | None,
    weights_root: Path | None,
) -> None:
    """Trials an hour of the plain loop (a), the single trainer (b) and the engine (c), by kind of trial."""
    for backbone in backbones:
        backbone_spec(backbone)  # InvalidInput for what has no epochs
    study = Study.from_document(
        {
            "name": "throughput",
            "version": "0",
            "datasets": [dataset],
            "backbones": list(backbones),
            "image_size": {"2d": [side] * 2, "3d": [side] * 3},
            "caps": dict.fromkeys(("train", "val", "test"), cap),
            "epochs": epochs,
            "designs": {"grid": True},
        }
    )
    data = load_study_data(study, study.cards[0].name, 0, data_root)
    rows = []
    for kind, specs in _kinds(study, trials):
        seconds = {
            "a": _plain(specs, data, device, weights_root),
            "b": _single(specs, data, device, weights_root),
            "c": _engine(specs, data, device, weights_root, workers),
        }
        hourly = {way: len(specs) / value * 3600 for way, value in seconds.items()}
        rows.append(
            {
                "trials": f"{kind}, {len(specs)}",
                **{f"{way} per hour": f"{value:.0f}" for way, value in hourly.items()},
                "c / a": f"{hourly['c'] / hourly['a']:.1f}",
                "c / b": f"{hourly['c'] / hourly['b']:.1f}",
            }
        )
        print_table(rows[-1:])
    print_table(rows)


def _kinds(study: Study, trials: int) -> Iterator[tuple[str, list[TrialSpec]]]:
    """Trials of each backbone, spread over its grid; those on kept activations apart from the others."""
    for backbone in study.backbones:
        grid = search_space([backbone]).grid()
        chosen = [grid[row] for row in np.linspace(0, len(grid) - 1, min(trials, len(grid))).round().astype(int)]
        kept = [c for c in chosen if repeated_parts(c) == "all"]
        for kind, configs in (("linear probes", kept), ("others", [c for c in chosen if c not in kept])):
            if configs:
                specs = [TrialSpec(study.cards[0].name, "", 0, config, 0, study.epochs) for config in configs]
                yield f"{backbone}: {kind}", specs


def _single(specs: Sequence[TrialSpec], data: TrialData, device: str, weights_root: Path | None) -> float:
    started = perf_counter()
    for spec in specs:
        _check(run_trial(spec, data, resolve_device(device), weights_root, repeated="none").status, spec.config)
    return perf_counter() - started


def _engine(specs: Sequence[TrialSpec], data: TrialData, device: str, weights_root: Path | None, workers: int) -> float:
    if resolve_device(device).type == "cuda":
        return _fused(specs, data, device, weights_root)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_load, initargs=(data, weights_root)) as pool:
        list(pool.map(_warm, range(workers * 4)))  # starting processes is not training
        started = perf_counter()
        for status, spec in zip(pool.map(_train_loaded, specs), specs, strict=True):
            _check(status, spec.config)
        return perf_counter() - started


_loaded: list[tuple[TrialData, Path | None]] = []


def _load(data: TrialData, weights_root: Path | None) -> None:
    _loaded.append((data, weights_root))


def _warm(_number: int) -> None:
    torch.set_num_threads(1)


def _train_loaded(spec: TrialSpec) -> Status:
    data, weights_root = _loaded[0]
    return run_trial(spec, data, torch.device("cpu"), weights_root).status


def _fused(specs: Sequence[TrialSpec], data: TrialData, device: str, weights_root: Path | None) -> float:
    place = resolve_device(device)
    known: Calibration = calibrate([(spec.config, data) for spec in specs], place, weights_root)
    groups: dict[object, list[TrialSpec]] = {}
    for spec in specs:
        groups.setdefault(fusion_key(spec.config), []).append(spec)
    started = perf_counter()
    for group in groups.values():
        for result in run_fused(group, data, place, weights_root, partial(known.epoch_cost, data=data)):
            _check(result.status, group[0].config)
    return perf_counter() - started


def _check(status: Status, config: Config) -> None:
    if status not in (Status.COMPLETED, Status.DIVERGED):
        raise InvalidInput(f"a trial of the benchmark ended as {status}: {config}")


class _Images(Dataset[tuple[torch.Tensor, int]]):
    """One part of a dataset as a plain loop would serve it."""

    def __init__(self, part: Part, config: Config, data: TrialData, *, training: bool) -> None:
        self.part, self.spec = part, backbone_spec(str(config["backbone"]))
        self.kind = str(config["augmentation"]) if training else "none"
        self.legal, self.generator = Legal(data.legal_flips, data.bias_field), torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return len(self.part.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        x = torch.from_numpy(self.part.images[index]).float()[None]
        x = apply(x, draw(self.kind, 1, x.shape[2:], self.legal, self.generator))
        return to_input(x, self.spec)[0], int(self.part.labels[index])


def _plain(specs: Sequence[TrialSpec], data: TrialData, device: str, weights_root: Path | None) -> float:
    started = perf_counter()
    for spec in specs:
        _plain_trial(spec, data, resolve_device(device), weights_root)
    return perf_counter() - started


def _plain_trial(spec: TrialSpec, data: TrialData, device: torch.device, weights_root: Path | None) -> None:
    config = spec.config
    batch_size = int(config["batch_size"])
    train = DataLoader(_Images(data.train, config, data, training=True), batch_size, shuffle=True, drop_last=True)
    held_out = [
        (part, DataLoader(_Images(part, config, data, training=False), BATCH)) for part in (data.val, data.test)
    ]
    model = build_classifier(backbone_spec(str(config["backbone"])), config, data.n_classes, weights_root).to(device)
    optimizer = build_optimizer(model, config)
    schedule = Schedule(config, len(train), spec.epochs)
    for epoch in range(spec.epochs):
        model.train()
        for step, (x, y) in enumerate(train):
            set_rate(optimizer, schedule.rate(epoch * len(train) + step))
            with mixed_precision(device):
                logits = model(x.to(device))
            loss = cross_entropy(logits.float(), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for part, loader in held_out:
                found = [model(x.to(device)).float().softmax(1) for x, _ in loader]
                evaluate(part.labels, torch.cat(found).cpu().numpy(), "val")


def main() -> None:
    """Entry point."""
    run_cli(cli)


if __name__ == "__main__":
    main()
