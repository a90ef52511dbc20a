"""Releases that grow: all of the old corpus as it is, what the run adds, and a word about every clash."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import assert_one_line_error
from factory import make_corpus
from phantom_study import grid_of
from synthetic_run import write_synthetic_run

import metaquery as mq
from corpus_builder.card import corpus_card
from corpus_builder.replay import _spec
from corpus_builder.seal import seal
from corpus_builder.study import Study
from metaquery.errors import CorpusError, InvalidInput
from metaquery.schema import TABLE_NAMES
from metaquery.schema.merging import merge_spaces
from metaquery.schema.predictions import SPLITS
from metaquery.space import Condition, Hyperparameter, SearchSpace
from metaquery.verify import verify


def study(**changes: Any) -> Study:
    return Study.from_document(
        {
            "name": "growing",
            "version": "1",
            "datasets": ["pneumoniamnist", "bloodmnist"],
            "backbones": ["tiny_2d.scratch"],
            "image_size": {"2d": [32, 32]},
            "epochs": 3,
            "designs": {"grid": grid_of(["tiny_2d.scratch"], lr=[1e-3, 1e-2])},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first release: 4 trials of a backbone with random weights."""
    root = tmp_path_factory.mktemp("old")
    write_synthetic_run(root / "run", study())
    return seal(root / "run", root / "corpus")


GROWN: dict[str, Any] = {
    "version": "2",
    "datasets": ["bloodmnist", "breastmnist"],
    "backbones": ["tiny_2d.scratch", "resnet20.cifar10"],
    "designs": {
        "grid": grid_of(
            ["tiny_2d.scratch", "resnet20.cifar10"], lr=[1e-3, 3e-3], dropout=[0.0, 0.2], optimizer=["adamw", "sgd"]
        )
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that adds a dataset, a pretrained backbone and values; trials of the first release are in it too."""
    root = tmp_path_factory.mktemp("new")
    write_synthetic_run(root / "run", study(**GROWN))
    return root / "run"


@pytest.fixture(scope="module")
def grown(old: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> mq.Corpus:
    return mq.open(seal(run, tmp_path_factory.mktemp("grown") / "corpus", extends=old))


def test_it_has_the_trials_of_both_as_they_are(old: Path, run: Path, grown: mq.Corpus, tmp_path: Path) -> None:
    first, second = mq.open(old), mq.open(seal(run, tmp_path / "alone"))
    ids = [set(corpus.table("trials")["trial_id"].to_pylist()) for corpus in (first, second, grown)]
    assert ids[0] & ids[1]
    assert ids[2] == ids[0] | ids[1]
    for corpus in (first, second):
        for name in ("trials", "curves"):
            rows = {tuple(row.items()) for row in corpus.table(name).to_pylist()}
            assert rows <= {tuple(row.items()) for row in grown.table(name).to_pylist()}
        for trial_id in list(corpus.table("trials")["trial_id"].to_pylist())[:10]:
            for split in SPLITS:
                for got, stored in zip(
                    grown.predictions(trial_id, split, "best"), corpus.predictions(trial_id, split, "best"), strict=True
                ):
                    assert np.array_equal(got, stored)


def test_order_and_encoding_are_those_of_any_corpus(grown: mq.Corpus) -> None:
    trials = grown.table("trials")
    keys = list(zip(*(trials[name].to_pylist() for name in ("dataset", "fold", "config_id", "seed")), strict=True))
    assert keys == sorted(keys)
    assert {problem.split(":")[0] for problem in verify(grown.root)} <= {  # the probabilities are made up
        f"predictions/{dataset}.zarr.zip" for dataset in grown.datasets
    }
    assert not any("checkpoints" in problem or "samples" in problem for problem in verify(grown.root))


def test_manifest_and_card_say_what_changed(old: Path, grown: mq.Corpus) -> None:
    extends = grown.manifest["extends"]
    assert (extends["name"], extends["version"], extends["hash"]) == ("growing", "1", mq.open(old).hash)
    changes = extends["changes"]
    added = grown.table("trials").num_rows - mq.open(old).table("trials").num_rows
    assert sum(row["trials"] for row in changes["trials"]) == added
    assert changes["datasets"] == ["breastmnist"]
    assert changes["backbones"] == ["resnet20.cifar10"]
    assert "freeze" in changes["hyperparameters"]  # there was nothing to freeze before
    card = (grown.root / "README.md").read_text()
    assert "## What is new" in card
    assert f"and {added} more trials. New datasets: breastmnist. New backbones: resnet20.cifar10." in card
    tables = {name: grown.table(name) for name in TABLE_NAMES}
    assert card == corpus_card(grown.manifest["provenance"], tables, extends=extends)


def test_every_trial_can_be_traced_to_its_study(old: Path, run: Path, grown: mq.Corpus) -> None:
    assert [made["study"]["version"] for made in grown.manifest["provenance"]["earlier"]] == ["1"]
    for trial_id in grown.table("trials")["trial_id"].to_pylist():
        found, spec = _spec(grown.root, trial_id)
        assert spec.trial_id == trial_id
        assert found.version in ("1", "2")


def test_the_merged_space_has_both_grids(old: Path, grown: mq.Corpus) -> None:
    space = grown.space
    assert space["lr"].grid == (1e-3, 3e-3, 1e-2)
    assert space["backbone"].choices == ("tiny_2d.scratch", "resnet20.cifar10")
    assert set(mq.open(old).space.grid()) <= set(space.grid())
    designs = grown.sql("select distinct design from configs").rows()
    assert designs == [("grid",)]
    bench = grown.benchmark("bloodmnist")
    assert len(bench.configs) == grown.sql("select count(*) from trials where dataset = 'bloodmnist'").rows()[0][0]


def test_growing_twice_and_sealing_again(grown: mq.Corpus, run: Path, old: Path, tmp_path: Path) -> None:
    assert seal(run, grown.root, extends=old) == grown.root  # nothing to do
    write_synthetic_run(tmp_path / "run", study(version="3", seeds=[5]))
    third = mq.open(seal(tmp_path / "run", tmp_path / "corpus", extends=grown.root))
    assert third.table("trials").num_rows == grown.table("trials").num_rows + 4
    assert [made["study"]["version"] for made in third.manifest["provenance"]["earlier"]] == ["2", "1"]


def test_the_command_says_what_is_new(command: Any, old: Path, run: Path, tmp_path: Path) -> None:
    done = command("corpus-builder", "seal", run, "--out", tmp_path / "c", "--extends", old)
    assert done.returncode == 0, done.stderr
    assert "breastmnist x tiny_2d.scratch: 8 new trials" in done.stdout
    assert "beside all of growing 1, unchanged" in done.stdout


def test_a_release_of_the_same_name_and_version_is_refused(old: Path, tmp_path: Path) -> None:
    write_synthetic_run(tmp_path / "run", study(datasets=["breastmnist"]))
    with pytest.raises(InvalidInput, match="is growing 1 already: give the study another version"):
        seal(tmp_path / "run", tmp_path / "corpus", extends=old)
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2}, "full fidelity must be the same"),
        ({"image_size": {"2d": [64, 64]}}, r"datasets: bloodmnist is not the same in growing 1 and the run .*: shape"),
    ],
)
def test_another_kind_of_run_is_refused(old: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_synthetic_run(tmp_path / "run", study(version="2", **changes))
    with pytest.raises(InvalidInput, match=message):
        seal(tmp_path / "run", tmp_path / "corpus", extends=old)
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


@pytest.mark.parametrize("column", ["total_seconds", "curve"])
def test_another_record_of_the_same_trial_is_refused_by_its_id(old: Path, tmp_path: Path, column: str) -> None:
    opened = write_synthetic_run(tmp_path / "run", study(version="2"))
    unit = opened.plan.units[0]
    shard = opened.read_shard(unit)
    rows = shard.to_pylist()
    if column == "curve":
        rows[0]["curve"][1]["train_loss"] += 1.0
    else:
        rows[0][column] += 1.0
    pq.write_table(pa.Table.from_pylist(rows, schema=shard.schema), opened.shard_path(unit))
    with pytest.raises(InvalidInput, match=f"for the same trials: {rows[0]['trial_id']}; keep one of the two"):
        seal(tmp_path / "run", tmp_path / "corpus", extends=old)


def test_damaged_and_foreign_corpora_are_refused(command: Any, old: Path, run: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(old, tmp_path / "damaged"))
    with (damaged / "splits.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CorpusError, match=r"splits\.parquet is not what corpus\.json says"):
        seal(run, tmp_path / "corpus", extends=damaged)
    done = command("corpus-builder", "seal", run, "--out", tmp_path / "corpus", "--extends", tmp_path)
    assert_one_line_error(done, "is not a sealed corpus")
    other = make_corpus(tmp_path / "other", datasets=("alpha",), epochs=3)
    with pytest.raises(InvalidInput, match="the search spaces do not go together"):
        seal(run, tmp_path / "corpus", extends=other)
    manifest = json.loads((old / "corpus.json").read_text())
    shutil.copy(old / "splits.parquet", damaged)
    (damaged / "corpus.json").write_text(json.dumps({**manifest, "imported": {"format": "x", "notes": []}}))
    with pytest.raises(InvalidInput, match="only a corpus that the builder sealed can grow"):
        seal(run, tmp_path / "corpus", extends=damaged)


# Spaces --------------------------------------------------------------------------------------------------------------

A = SearchSpace(
    "a",
    (
        Hyperparameter("backbone", "categorical", "x", choices=("x", "y"), grid=("x", "y")),
        Hyperparameter("rate", "float", 0.1, low=0.01, high=1.0, log=True),
        Hyperparameter("size", "ordinal", 16, choices=(16, 32)),
    ),
)


def test_a_space_merged_with_itself_is_itself() -> None:
    assert merge_spaces(A, A) == A


def test_choices_ranges_grids_and_conditions_are_united() -> None:
    only_z = Condition("backbone", ("z",))
    b = SearchSpace(
        "b",
        (
            Hyperparameter("backbone", "categorical", "z", choices=("z", "w"), grid=("z", "w")),
            Hyperparameter("rate", "float", 0.2, low=0.001, high=0.5, log=True, condition=only_z),
            Hyperparameter("size", "ordinal", 8, choices=(8, 16), grid=(8,)),
            Hyperparameter("depth", "integer", 2, low=1, high=3, condition=only_z),
        ),
    )
    merged = merge_spaces(A, b)
    assert merged["backbone"].choices == ("x", "y", "z", "w")
    assert (merged["rate"].low, merged["rate"].high, merged["rate"].grid) == (0.001, 1.0, (0.1, 0.2))
    assert merged["rate"].condition == Condition("backbone", ("x", "y", "z"))
    assert (merged["size"].choices, merged["size"].grid, merged["size"].condition) == ((8, 16, 32), (8, 16), None)
    assert merged["depth"].condition == only_z
    for space in (A, b):
        for config in space.grid():
            assert merged.config(config) == config
        assert set(space.grid()) <= set(merged.grid())


def test_what_is_not_the_same_hyperparameter_is_refused() -> None:
    for changed, message in (
        (replace(A["rate"], log=False), "rate is float in one and float"),
        (replace(A["rate"], kind="integer", low=1, high=3, default=1, log=False), "rate is float in one and integer"),
        (replace(A["size"], condition=Condition("rate", (0.1,))), None),
    ):
        other = SearchSpace("o", tuple(changed if hp.name == changed.name else hp for hp in A.hyperparameters))
        if message is None:
            assert merge_spaces(A, other)["size"].condition is not None
            continue
        with pytest.raises(InvalidInput, match=message):
            merge_spaces(A, other)
