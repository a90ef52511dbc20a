"""What a run stores about a dataset and fold beside its curves: its row, its splits and its meta-features."""

from __future__ import annotations

import pyarrow as pa

from corpus_builder.datasets import dataset_row, roles, split_rows
from corpus_builder.execute.leases import Lease
from corpus_builder.execute.rundir import RunDirectory
from corpus_builder.execute.work import Place, prepared
from corpus_builder.metafeatures import Measurement, TrainingPart, measure
from metaquery.schema import table


def describe(run: RunDirectory, dataset: str, fold: int, place: Place, lease: Lease) -> Measurement:
    """Store the rows of the data tables for a dataset and fold; returns the measurement of its meta-features.

    Raises LeaseLost, and stores nothing, when another process has taken `lease` over.
    """
    study = run.plan.study
    card = study.card(dataset)
    data = prepared(card, place.data_root, study.size(card))
    role = roles(data, fold, study.caps)
    measured = measure(TrainingPart.of(data, role, place.weights_root))
    rows = {
        "datasets": [dataset_row(data)],
        "splits": split_rows(data, fold, role),
        "metafeatures": [{"dataset": dataset, "fold": fold, **row} for row in measured.rows],
    }
    lease.check()
    tables = {name: pa.Table.from_pylist(rows[name], schema=table(name).arrow_schema()) for name in rows}
    run.write_data(dataset, fold, tables)
    return measured
