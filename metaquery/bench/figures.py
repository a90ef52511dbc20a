"""The figures: what is measured, of ours, of the peers, and done plainly."""

from __future__ import annotations

import heapq
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metaquery.bench.made import EPOCHS, make_table, tabular, write_tables
from metaquery.bench.peer import ask
from metaquery.bench.timing import alternately, least
from metaquery.benchmarks.tabular import TabularBenchmark
from metaquery.corpus import open as open_corpus
from metaquery.dense import Dense
from metaquery.dense_summary import best_values
from metaquery.errors import InvalidInput
from metaquery.metrics import metric
from metaquery.optimizers import optimizer
from metaquery.sql import SqlSession
from metaquery.study import run
from metaquery.types import Budget

_TRIALS, _WORKERS = 500, 4
_BATCH = 1_000_000
_ASKED = 2_000  # different configs that a surrogate is asked for
_STEPS = 50  # of its training: what a query costs does not depend on them
_BEST = "select trial_id, max(val_auc) from {} group by trial_id"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement in `unit`; `peers` and the plain way, the `floor`, in the same unit, None where absent."""

    name: str
    ours: float
    unit: str
    target: str
    peers: Mapping[str, float | None] = field(default_factory=dict)
    floor: float | None = None


def opening(source: str) -> Iterator[Figure]:
    """Opening a corpus in a fresh process."""
    open_corpus(source)  # what is wrong with it is said here, in one line
    code = (
        "import time; a = time.process_time(); import metaquery as mq; b = time.process_time();"
        f"mq.open({source!r}); print(time.process_time() - b, time.process_time() - a)"
    )
    runs = []
    for _ in range(9):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        runs.append([1e3 * float(number) for number in done.stdout.split()])
    for name, times, target in zip(("open", "import and open"), zip(*runs), ("< 50", "< 250")):
        yield Figure(f"{name}, least", min(times), "ms", target)
        yield Figure(f"{name}, median", float(np.median(times)), "ms", target)


def tables(directory: Path, pythons: Mapping[str, Path]) -> Iterator[Figure]:
    """Queries one by one and in a batch, and a simulated study."""
    for configs in (2_000, 20_000):
        made = make_table(configs)
        bench = tabular(made)
        archive = directory / f"table{configs}.npz"
        np.savez(archive, points=made.points, values=made.values)
        trials = _TRIALS if configs == 2_000 else 0
        peers = {
            "Syne Tune": ask("syne_tune", pythons, archive, trials, _WORKERS),
            "mf-prior-bench": ask("mf_prior_bench", pythons, archive),
        }
        ours, floor = _query(bench)
        yield Figure(
            f"query, {configs:,} configs",
            ours,
            "us",
            "<= 3; 80 x Syne Tune, 200 x mf-prior-bench",
            {name: None if found is None else found["query"] * 1e6 for name, found in peers.items()},
            floor,
        )
        yield _batch(bench)
        if trials:
            found = peers["Syne Tune"]
            yield _asha(bench, {"Syne Tune": None if found is None else found["asha"] * 1e3})


def _query(bench: TabularBenchmark) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    n = 10_000
    asked = [
        (bench.configs[row], epoch)
        for row, epoch in zip(
            rng.integers(len(bench.configs), size=n).tolist(), rng.integers(1, EPOCHS + 1, size=n).tolist(), strict=True
        )
    ]
    table = {(config.config_id, epoch): bench.query(config, epoch) for config, epoch in asked}

    def ours() -> None:
        for config, epoch in asked:
            bench.query(config, epoch)

    def plain() -> None:
        for config, epoch in asked:
            table[config.config_id, epoch]

    times = alternately({"ours": ours, "plain": plain})
    return times["ours"] / n * 1e6, times["plain"] / n * 1e6


def _batch(bench: TabularBenchmark) -> Figure:
    rng = np.random.default_rng(0)
    rows, epochs = rng.integers(len(bench.configs), size=_BATCH), rng.integers(1, EPOCHS + 1, size=_BATCH)
    values = rng.random((len(bench.configs), EPOCHS))
    times = alternately({"ours": lambda: bench.query_batch(rows, epochs), "plain": lambda: values[rows, epochs - 1]})
    name = f"batch of {_BATCH:,} queries, {len(bench.configs):,} configs (plain: one gather)"
    return Figure(name, times["ours"] * 1e3, "ms", "< 50", {}, times["plain"] * 1e3)


def _asha(bench: TabularBenchmark, peers: Mapping[str, float | None]) -> Figure:
    def study(evaluations: int) -> int:
        trajectory = run(optimizer("asha", seed=0), bench, Budget(trials=evaluations), _WORKERS)
        return len({step.config for step in trajectory.steps})

    evaluations = next(n for n in range(_TRIALS, 2 * _TRIALS, 10) if study(n) >= _TRIALS)

    def loop() -> None:
        events = [(0.0, worker) for worker in range(_WORKERS)]
        for _ in range(evaluations):
            now, worker = heapq.heappop(events)
            heapq.heappush(events, (now + 1.0 + worker, worker))

    times = alternately({"ours": lambda: study(evaluations), "plain": loop})
    name = f"ASHA, {_TRIALS} trials, {_WORKERS} workers (plain: an event loop)"
    return Figure(name, times["ours"] * 1e3, "ms", "100 x Syne Tune", peers, times["plain"] * 1e3)


def scans(directory: Path, rows: int) -> Iterator[Figure]:
    """The best value of every trial, one curve, and the size of a row."""
    import duckdb

    trials, curves, epochs = write_tables(directory, rows)
    yield Figure("a made-up curve row", curves.stat().st_size / rows, "bytes", "<= 25")
    dense = Dense(trials, curves, epochs)
    values = dense.column("val_auc")
    connection = duckdb.connect(":memory:")
    by_hand = _BEST.format(f"read_parquet('{curves}')")
    session = SqlSession({"curves": curves}, metric("auc"))
    calls: dict[str, Any] = {
        "dense": lambda: best_values(values, metric("auc")),
        "sql": lambda: session.run(_BEST.format("curves")),
        "duckdb": lambda: connection.sql(by_hand).to_arrow_table(),
        "plain": lambda: np.fmax.reduce(values, axis=1),
    }
    times = {name: 1e3 * seconds for name, seconds in alternately(calls, rounds=3).items()}
    name = f"best of each trial, {rows:,} curve rows"
    peers = {"DuckDB by hand": times["duckdb"]}
    yield Figure(f"{name}, dense", times["dense"], "ms", "10 x DuckDB", peers, times["plain"])
    yield Figure(f"{name}, SQL", times["sql"], "ms", "within 1.2 x of DuckDB by hand", peers)
    ids = dense.ids()[np.random.default_rng(0).integers(len(values), size=5_000)].astype(str).tolist()
    places = np.random.default_rng(0).integers(len(values), size=5_000).tolist()
    one = least(lambda: [dense.curve(trial_id, "val_auc") for trial_id in ids]) / len(ids) * 1e6
    plain = least(lambda: [values[row] for row in places]) / len(ids) * 1e6
    yield Figure("one curve, mapped", one, "us", "< 10", {}, plain)


def predictions(source: str, directory: Path) -> Iterator[Figure]:
    """The predictions of one trial of a corpus, from its Zarr stores; nothing where it has none."""
    corpus = open_corpus(source)
    having = set()
    for dataset in corpus.datasets:
        with suppress(InvalidInput):  # it stores none of this one
            corpus.prediction_file(dataset)
            having.add(dataset)
    parts = corpus.trial_parts.items()
    stored = [trial_id for trial_id, (dataset, _) in parts if dataset in having and corpus.checkpoints(trial_id)]
    if not stored:
        return
    for trial_id in stored:
        np.save(directory / f"{trial_id}.npy", corpus.predictions(trial_id)[1].astype(np.float32))
    times = alternately(
        {
            "ours": lambda: [corpus.predictions(trial_id) for trial_id in stored],
            "plain": lambda: [np.load(directory / f"{trial_id}.npy") for trial_id in stored],
        }
    )
    ours, plain = (1e6 * seconds / len(stored) for seconds in times.values())
    name = f"the predictions of one trial of {corpus.name} (plain: one uncompressed file of them)"
    yield Figure(name, ours, "us", "<= 95, TabRepo's", {}, plain)


def surrogates(source: str, pythons: Mapping[str, Path]) -> Iterator[Figure]:
    """Queries of a surrogate of a corpus: of a config for the first time, once more, and in a batch."""
    from metaquery.benchmarks.surrogate import SurrogateBenchmark
    from metaquery.surrogates import train
    from metaquery.surrogates.encoding import Encoder
    from metaquery.surrogates.network import Settings

    corpus = open_corpus(source)
    learned = train(corpus, settings=Settings(max_steps=_STEPS))
    task = learned.tasks[0]

    def fresh() -> SurrogateBenchmark:
        return SurrogateBenchmark(
            learned, dataset=task.dataset, fold=task.fold, seed=0, source=corpus.hash, learned=[corpus.space.default()]
        )

    bench, rng = fresh(), np.random.default_rng(0)
    configs = list(dict.fromkeys(bench.space.sample(rng) for _ in range(_ASKED)))
    epochs = rng.integers(1, bench.epochs + 1, size=len(configs))
    asked = list(zip(configs, epochs.tolist(), strict=True))
    inputs = Encoder(learned.space, learned.tasks).inputs(configs, np.zeros(len(configs), np.int64)).astype(np.float32)

    def one_by_one(bench: SurrogateBenchmark) -> None:
        for config, epoch in asked:
            bench.query(config, epoch)

    calls: dict[str, Any] = {
        "alone": lambda: one_by_one(fresh()),
        "again": lambda: one_by_one(bench),
        "batch": lambda: bench.query_batch(configs, epochs),
        "one row": lambda: [learned.network(row[None]) for row in inputs],
        "rows": lambda: learned.network(inputs),
    }
    one_by_one(bench)
    times = {name: 1e6 * seconds / len(asked) for name, seconds in alternately(calls).items()}
    found = ask("yahpo", pythons, len(asked))
    peers = {name: {"YAHPO": None if found is None else found[name] * 1e6} for name in ("alone", "batch")}
    name = "surrogate, a query (plain: its network)"
    yield Figure(name, times["alone"], "us", "4 x YAHPO", peers["alone"], times["one row"])
    yield Figure("surrogate, the same query again", times["again"], "us", "<= 3")
    name = f"surrogate, a query of a batch of {len(asked):,} (plain: its network)"
    yield Figure(name, times["batch"], "us", "20 x YAHPO", peers["batch"], times["rows"])
