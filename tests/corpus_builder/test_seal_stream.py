"""Sealing in a stream: memory that does not grow with the curves, and a builder that is quicker than what it builds."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from instant import instant_trial, wide_study
from phantom_study import write_study
from synthetic_run import synthetic_study, write_synthetic_run

import metaquery as mq
from corpus_builder.cost import nominal_cost
from corpus_builder.execute import Place, run_plan, work
from corpus_builder.plan import make_plan, read_plan, write_plan
from corpus_builder.seal import seal
from corpus_builder.study import load_study
from metaquery.schema.parquet import write_parquet
from metaquery.schema.writer import Batch, CorpusWriter
from metaquery.verify import verify

_MEASURE = """
import resource, sys, time
from pathlib import Path
from corpus_builder.seal import seal
import corpus_builder.backbones.describe as describe
describe.backbone_row("tiny_2d.scratch", (32, 32))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seal(Path(sys.argv[1]), Path(sys.argv[2]))
print(before / 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def sealed_in_a_process(run: Path, out: Path) -> tuple[float, float]:
    """Peak memory in MB, with all libraries loaded and at the end of sealing `run`."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(run), str(out)], capture_output=True, text=True, check=True, timeout=7200
    )
    before, after = done.stdout.split()
    return float(before), float(after)


def memory(tmp_path: Path, n_datasets: int, n_configs: int) -> float:
    """What sealing `n_datasets` x `n_configs` trials of 27 epochs needs beyond the libraries, in MB."""
    root = tmp_path / f"{n_datasets}-{n_configs}"
    write_synthetic_run(root / "run", synthetic_study(n_datasets, 1, n_configs, 27))
    before, after = sealed_in_a_process(root / "run", root / "corpus")
    return after - before


def test_memory_grows_with_the_largest_dataset_and_not_with_the_number_of_them(tmp_path: Path) -> None:
    one, five = memory(tmp_path, 1, 400), memory(tmp_path, 5, 400)
    assert five < 1.5 * one + 30  # all curves and predictions of five are 5 times as large


@pytest.mark.slow
@pytest.mark.parametrize(("n_configs", "limit_mb"), [(1_000, 900), (10_000, 2_000)])
def test_a_large_run_is_sealed_in_little_memory(tmp_path: Path, n_configs: int, limit_mb: float) -> None:
    """20,000 and 200,000 trials of 27 epochs on 10 datasets."""
    write_synthetic_run(tmp_path / "run", synthetic_study(10, 2, n_configs, 27))
    started = time.perf_counter()
    _, peak = sealed_in_a_process(tmp_path / "run", tmp_path / "corpus")
    print(f"{20 * n_configs} trials: {time.perf_counter() - started:.0f} s, {peak:.0f} MB")
    assert peak < limit_mb
    assert pq.read_metadata(tmp_path / "corpus" / "curves.parquet").num_rows == 20 * n_configs * 27


def test_pieces_make_no_difference_to_the_bytes(tmp_path: Path) -> None:
    from metaquery.schema.parquet import TableWriter

    rng = np.random.default_rng(0)
    data = pa.table({"name": pa.array([f"t{n // 27}" for n in range(250_000)]), "x": rng.random(250_000, np.float32)})
    write_parquet(data, tmp_path / "whole.parquet")
    writer = TableWriter(tmp_path / "pieces.parquet", data.schema)
    start = 0
    while start < len(data):
        size = int(rng.integers(1, 60_000))
        writer.add(data.slice(start, size))
        start += size
    writer.close()
    assert (tmp_path / "pieces.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_batches_in_any_order_are_the_same_corpus(tmp_path: Path) -> None:
    from factory import make_content

    content = make_content(datasets=("alpha", "beta"), epochs=9)
    tables, predictions = content["tables"], content["predictions"]
    small = {name: data for name, data in tables.items() if name not in ("trials", "curves")}
    made = {"name": "x", "version": "1", "builder_version": "0", "devices": ["cpu"], "provenance": {}}
    roots = []
    for size in (1, 1000):
        with CorpusWriter(tmp_path / str(size), space=content["space"], epochs=9, tables=small) as writer:
            for dataset in ("alpha", "beta"):
                rows = tables["trials"].filter(pa.compute.equal(tables["trials"]["dataset"], dataset))
                batches = []
                for start in reversed(range(0, len(rows), size)):
                    some = rows.slice(start, size)
                    ids = set(some["trial_id"].to_pylist())
                    curves = tables["curves"].filter(
                        pa.array([i in ids for i in tables["curves"]["trial_id"].to_pylist()])
                    )
                    batches.append(Batch(some, curves, [trial for trial in predictions if trial.trial_id in ids]))
                writer.add(dataset, 0, batches)
            roots.append(writer.seal(**made))
    files = [sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()) for root in roots]
    assert files[0] == files[1]
    assert all((roots[0] / name).read_bytes() == (roots[1] / name).read_bytes() for name in files[0])
    assert verify(roots[0]) == []


def overhead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: int) -> tuple[int, float]:
    """Trials, and processor seconds of planning, running and sealing them, without what is done once."""
    monkeypatch.setattr(work, "run_any_trial", instant_trial)
    seconds = []
    for name, count in (("first", 1), ("timed", seeds)):  # the first loads libraries and describes the dataset
        study = write_study(tmp_path / f"{name}.yaml", **wide_study(seeds=list(range(count))))
        started = time.process_time()
        loaded = load_study(study)
        write_plan(make_plan(loaded, nominal_cost(loaded)), tmp_path / f"{name}.parquet")
        run_plan(read_plan(tmp_path / f"{name}.parquet"), tmp_path / f"run-{name}", Place(None, None))
        seal(tmp_path / f"run-{name}", tmp_path / f"corpus-{name}")
        seconds.append(time.process_time() - started)
    trials = mq.open(tmp_path / "corpus-timed").table("trials")
    assert set(trials["status"].to_pylist()) == {"completed"}
    return len(trials), seconds[1]


def test_the_builder_is_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of what the slow test runs; on one core, in processor time, as other work may run beside."""
    count, seconds = overhead(tmp_path, monkeypatch, seeds=2)
    assert count == 1_000
    assert count / seconds > 100


@pytest.mark.slow
def test_ten_thousand_trials_at_over_two_hundred_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, seconds = overhead(tmp_path, monkeypatch, seeds=20)
    print(f"{count} trials: {count / seconds:.0f} a second of processor time")
    assert count == 10_000
    assert count / seconds > 200
