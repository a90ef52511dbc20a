"""Predictions: what comes back is what was stored, read straight from the file as zarr would read it."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from factory import make_content

import metaquery as mq
from metaquery.errors import CorpusError, InvalidInput, MedCurvesError, UnknownName
from metaquery.metrics import METRICS, compute_all
from metaquery.schema.prediction_encoding import EXACT, MAX_ERROR
from metaquery.schema.prediction_reader import PredictionFile
from metaquery.schema.predictions import CHECKPOINTS, SPLITS
from metaquery.schema.rounding import RESOLUTION


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """What the shared corpus was written from."""
    return make_content(datasets=("alpha", "beta", "gamma"), folds=2)


def test_every_stored_prediction_comes_back(corpus: mq.Corpus, content: dict[str, Any]) -> None:
    for trial in content["predictions"]:
        for checkpoint, parts in trial.probabilities.items():
            for split, expected in parts.items():
                y_true, y_prob = corpus.predictions(trial.trial_id, split=split, epoch=checkpoint)
                assert y_true.shape == (len(expected),)
                assert y_prob.shape == expected.shape
                assert np.array_equal(y_prob.argmax(axis=1), expected.argmax(axis=1))
                for name, bound in MAX_ERROR.items():
                    stored, exact = (METRICS[name].function(y_true, p.astype(np.float64)) for p in (y_prob, expected))
                    assert abs(stored - exact) <= bound


def test_metrics_of_predictions_are_those_of_the_curve(corpus: mq.Corpus) -> None:
    rows = corpus.sql("select * from curves where epoch in (1, 27) order by random() limit 40").arrow().to_pylist()
    for row in rows:
        for split in SPLITS:
            values = compute_all(*corpus.predictions(row["trial_id"], split=split, epoch=row["epoch"]))
            for name, value in values.items():
                if name != "ece":  # an error of a probability may put it into another bin
                    absolute = RESOLUTION["max_error"].get(name, 0.0) + MAX_ERROR.get(name, 0.0) + 1e-6
                    relative = RESOLUTION["max_relative_error"].get(name, 0.0) * value
                    assert value == pytest.approx(row[f"{split}_{name}"], rel=0.0, abs=absolute + relative)
    assert set(values) == set(METRICS)


def test_labels_are_those_of_the_splits(corpus: mq.Corpus) -> None:
    trial_id = corpus.sql("select trial_id from trials where dataset = 'gamma' and fold = 1 limit 1").rows()[0][0]
    for split in SPLITS:
        expected = corpus.sql(
            f"select label from splits where dataset = 'gamma' and fold = 1 and role = '{split}' order by sample"
        ).rows()
        y_true, _ = corpus.predictions(trial_id, split=split)
        assert y_true.dtype == np.int64
        assert y_true.tolist() == [label for (label,) in expected]


def test_best_and_last(corpus: mq.Corpus) -> None:
    trial_id, best, last = corpus.sql(
        """select trial_id, arg_max(epoch, (val_auc, -epoch)), max(epoch) from curves join trials using (trial_id)
           where status = 'timed_out' group by 1"""
    ).rows()[0]
    assert last == 12
    for name, epoch in (("best", best), ("last", last)):
        assert np.array_equal(corpus.predictions(trial_id, epoch=name)[1], corpus.predictions(trial_id, epoch=epoch)[1])
    assert np.array_equal(corpus.predictions(trial_id)[1], corpus.predictions(trial_id, "test", "last")[1])


def test_reading_is_what_zarr_reads(corpus: mq.Corpus) -> None:
    """The fast path against the plain one, array by array."""
    for dataset in corpus.datasets:
        path = corpus.path(f"predictions/{dataset}.zarr.zip")
        file = PredictionFile(path)
        with zarr.storage.ZipStore(path, mode="r") as store:
            root: Any = zarr.open_group(store, mode="r", zarr_format=3)
            assert sorted(root.group_keys()) == [f"fold{fold}" for fold in file.folds]
            for fold in file.folds:
                group, stored = root[f"fold{fold}"], file.fold(fold)
                assert dict(group.attrs) == {"checkpoints": list(CHECKPOINTS), "max_error": MAX_ERROR}
                assert np.array_equal(group["trial"][:], stored.trials)
                assert np.array_equal(group["epoch"][:], stored.epochs)
                for split in SPLITS:
                    assert np.array_equal(group[f"{split}_label"][:], stored.labels[split])
                    assert np.array_equal(group[f"{split}_sample"][:], stored.samples[split])
                    steps, widths = group[f"{split}_step"][:], group[f"{split}_width"][:]
                    levels = np.einsum("tpkcn,p->tknc", group[split][:], 256 ** np.arange(4))
                    for row, column in zip(*np.nonzero(stored.epochs), strict=True):
                        weights = np.exp(-(levels[row, column] * steps[row, column]))
                        expected = np.float32(weights / weights.sum(axis=1, keepdims=True))
                        if widths[row, column] == EXACT:
                            expected = np.uint32(levels[row, column]).view(np.float32)
                        assert np.array_equal(stored.read(row, column, split), expected)


def test_missing_checkpoints_are_marked(corpus: mq.Corpus) -> None:
    trial_id = corpus.sql("select trial_id from trials where status = 'diverged' and dataset = 'alpha'").rows()[0][0]
    with zarr.storage.ZipStore(corpus.path("predictions/alpha.zarr.zip"), mode="r") as store:
        group: Any = zarr.open_group(store, mode="r", zarr_format=3)["fold0"]
        row = group["trial"][:].tolist().index(int(trial_id, 16))
        assert group["epoch"][row].tolist()[:4] == [1, 3, 0, 0]
        assert group["val_width"][row].tolist()[2:4] == [0, 0]
        assert group["val_step"][row].tolist()[2:4] == [0.0, 0.0]


def ids(corpus: mq.Corpus, status: str) -> str:
    return str(corpus.sql(f"select trial_id from trials where status = '{status}' and fold = 0").rows()[0][0])


def test_refusals_say_what_is_there(corpus: mq.Corpus) -> None:
    good, diverged, memory = (ids(corpus, status) for status in ("completed", "diverged", "out_of_memory"))
    for arguments, error, message in (
        (("nope",), UnknownName, "unknown trial 'nope': expected a trial_id of the table trials, such as"),
        ((good, "train"), UnknownName, "unknown split 'train': expected one of: test, val"),
        ((good, "test", 0), InvalidInput, "epoch must be an integer from 1 to 27, 'best' or 'last', got 0"),
        ((good, "test", 28), InvalidInput, "from 1 to 27, 'best' or 'last', got 28"),
        ((good, "test", -1), InvalidInput, "got -1"),
        ((good, "test", True), InvalidInput, "got True"),
        ((good, "test", 2.0), InvalidInput, "got 2.0"),
        ((good, "test", "first"), InvalidInput, "got 'first'"),
        ((good, "test", 2), InvalidInput, r"at epoch 2 are not stored: expected one of 1, 3, 9, 27, 'best' \(\d+\), "),
        ((diverged, "test", 27), InvalidInput, r"ended \(diverged\) after epoch [15]: it has no epoch 27"),
        ((memory, "test", "last"), InvalidInput, r"ended \(out_of_memory\) after epoch 0: it has no epoch last"),
    ):
        with pytest.raises(error, match=message):
            corpus.predictions(*arguments)


def test_trials_keep_to_their_fold(corpus: mq.Corpus) -> None:
    by_fold = corpus.sql(
        "select config_id, list(trial_id order by fold) from trials where dataset = 'beta' and seed = 0 group by all"
    ).rows()
    first, second = by_fold[0][1]
    assert not np.array_equal(corpus.predictions(first)[1], corpus.predictions(second)[1])


# Damage --------------------------------------------------------------------------------------------------------------


def repacked(path: Path, edit: Callable[[str, bytes], bytes | None], **options: Any) -> None:
    """Rewrite the zip at `path` with every entry passed through `edit` (None leaves it out)."""
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", **options) as new:
        for name in old.namelist():
            content = edit(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    path.write_bytes(packed.getvalue())


def metadata(**changes: Any) -> Callable[[str, bytes], bytes]:
    def edit(name: str, content: bytes) -> bytes:
        if name == "fold0/val/zarr.json":
            return json.dumps({**json.loads(content), **changes}).encode()
        return content

    return edit


PICKLE = [{"name": "numcodecs.pickle"}]


@pytest.mark.parametrize(
    "edit",
    [
        metadata(codecs=PICKLE),
        metadata(codecs=[]),
        metadata(shape=[1]),
        metadata(shape=[10**9, 4, 6, 2, 10**9]),
        metadata(data_type="object"),
        metadata(zarr_format=2),
        metadata(chunk_grid={}),
        metadata(fill_value=None, shape=None),
        lambda name, content: None if name == "fold0/val/zarr.json" else content,
        lambda name, content: b"[" * 10 if name == "fold0/val/zarr.json" else content,
        lambda name, content: content[:10] if name.startswith("fold0/val/c") else content,
        lambda name, content: bytes(len(content)) if name.startswith("fold0/val/c") else content,
        lambda name, content: b"\xfe" * len(content) if name.startswith("fold0/val/c") else content,
        lambda name, content: None if name.startswith("fold0/trial/c") else content,
        lambda name, content: None if name.startswith("fold0") else content,
        lambda name, content: None if name.startswith("fold0/val_step/c") else content,
        lambda name, content: None if name.startswith("fold0/val_width/c") else content,
        lambda name, content: content[:-4] if name == "fold0/val_label/c/0" else content,
    ],
)
def test_damaged_files_are_refused(corpus_copy: Path, edit: Callable[[str, bytes], bytes | None]) -> None:
    trial_id = ids(mq.open(corpus_copy), "completed")
    repacked(corpus_copy / "predictions" / "alpha.zarr.zip", edit)
    with pytest.raises(MedCurvesError, match=r"damaged|not stored|ended"):
        mq.open(corpus_copy).predictions(trial_id, split="val")


def test_compressed_and_truncated_zips_are_refused(corpus_copy: Path) -> None:
    path = corpus_copy / "predictions" / "alpha.zarr.zip"
    trial_id = ids(mq.open(corpus_copy), "completed")
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PK"):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match="cannot be opened"):
            mq.open(corpus_copy).predictions(trial_id)
    path.write_bytes(whole)
    repacked(path, lambda _, content: content, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CorpusError, match="is not stored as it should be"):
        mq.open(corpus_copy).predictions(trial_id)


def test_swapped_files_are_noticed(corpus_copy: Path) -> None:
    folder = corpus_copy / "predictions"
    shutil.copy(folder / "beta.zarr.zip", folder / "alpha.zarr.zip")
    corpus = mq.open(corpus_copy)
    with pytest.raises(InvalidInput, match="are not stored"):
        corpus.predictions(ids(corpus, "timed_out"))
