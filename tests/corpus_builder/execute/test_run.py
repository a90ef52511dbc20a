"""What a run does with what it is given: a finished plan, a damaged shard, bad input."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import assert_one_line_error
from phantom_study import write_study
from run_tools import curves


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, command):
    """A plan, and a run of it that nothing disturbed."""
    root = tmp_path_factory.mktemp("undisturbed")
    study = write_study(root / "study.yaml")
    done = command("corpus-builder", "plan", study, "--out", root / "plan.parquet")
    assert done.returncode == 0, done.stderr
    assert "6 trials of 3 epochs in 6 units" in done.stdout
    done = command("corpus-builder", "run", root / "plan.parquet", "--run-dir", root / "run")
    assert done.returncode == 0, done.stderr
    assert "6 completed" in done.stdout
    return root


def test_running_a_finished_plan_does_nothing(undisturbed, command):
    before = {path: path.stat().st_mtime_ns for path in (undisturbed / "run" / "shards").iterdir()}
    done = command("corpus-builder", "run", undisturbed / "plan.parquet", "--run-dir", undisturbed / "run")
    assert "nothing was left to do" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in (undisturbed / "run" / "shards").iterdir()} == before


def test_status_counts_what_is_finished(undisturbed, command):
    done = command("corpus-builder", "status", undisturbed / "run")
    assert done.stdout.split()[-5:] == ["phantom_nodules3d", "tiny_3d.scratch", "6", "6", "0"]


def test_a_damaged_shard_is_set_aside_and_its_trials_run_again(undisturbed, command, tmp_path):
    run = copy_run(undisturbed / "run", tmp_path / "run")
    shard = sorted((run / "shards").iterdir())[2]
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 0xFF
    shard.write_bytes(bytes(data))
    refused = command("corpus-builder", "seal", run, "--out", tmp_path / "corpus")
    assert_one_line_error(refused, "damaged", shard.name, "run the plan again")
    done = command("corpus-builder", "run", undisturbed / "plan.parquet", "--run-dir", run)
    assert done.returncode == 0, done.stderr
    assert "set aside a damaged shard" in done.stderr
    assert "1 completed" in done.stdout
    assert curves(run) == curves(undisturbed / "run")


def copy_run(source: Path, target: Path) -> Path:
    import shutil

    shutil.copytree(source, target)
    return target


def own_card(file: Path) -> str:
    """The card of 40 grey images of 20 patients in two classes, stored in `file`."""
    block = {
        "name": "toy",
        "title": "Toy",
        "modality": "CT",
        "body_part": "lung",
        "oncology": "no",
        "classes": ["cold", "hot"],
        "n_dims": 2,
        "channels": 1,
        "n_samples": 40,
        "n_groups": 20,
        "class_counts": {"cold": 20, "hot": 20},
        "family": "toy",
        "licence": "none",
        "source": "a test",
        "citation": "nobody",
        "format": "npz",
        "files": [{"path": "toy/data.npz", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}],
        "keys": {"images": "images", "labels": "labels", "groups": "group_ids"},
        "split": {"kind": "grouped", "folds": 5, "seed": 0},
    }
    front = {
        "license": "unknown",
        "pretty_name": "Toy",
        "task_categories": ["image-classification"],
        "tags": ["test"],
        "size_categories": ["n<1K"],
        "medcurves": block,
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# Toy\n"


class TestBadInput:
    """One line, exit code 2, nothing written."""

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"datasets": ["phantom_nodules"]}, ["unknown dataset 'phantom_nodules'", "phantom_nodules3d"]),
            ({"backbones": ["tiny_3d"]}, ["unknown backbone 'tiny_3d'", "tiny_3d.scratch"]),
            ({"backbones": ["tiny_2d.scratch"]}, ["no backbone takes 3-D images"]),
            ({"image_size": {"2d": [8, 8]}}, ["image_size needs 3d"]),
            ({"epochs": 28}, ["epochs: 28 is greater than the maximum of 27"]),
            ({"epochs": 0, "seeds": []}, ["epochs: 0 is less than", "seeds: []"]),
            ({"epoch": 3}, ["'epoch' was unexpected"]),
            ({"designs": {}}, ["designs"]),
        ],
    )
    def test_a_study(self, command, tmp_path, changes, words):
        study = write_study(tmp_path / "study.yaml", **changes)
        assert_one_line_error(command("corpus-builder", "plan", study, "--out", tmp_path / "p.parquet"), *words)
        assert not (tmp_path / "p.parquet").exists()

    def test_a_study_that_is_not_yaml_or_not_there(self, command, tmp_path):
        (tmp_path / "s.yaml").write_text("name: [")
        assert_one_line_error(
            command("corpus-builder", "plan", tmp_path / "s.yaml", "--out", tmp_path / "p"), "not YAML"
        )
        assert_one_line_error(command("corpus-builder", "plan", tmp_path / "t.yaml", "--out", tmp_path / "p"), "t.yaml")

    def test_a_file_that_is_no_plan(self, command, tmp_path):
        (tmp_path / "p.parquet").write_bytes(b"PAR1 nothing")
        done = command("corpus-builder", "run", tmp_path / "p.parquet", "--run-dir", tmp_path / "run")
        assert_one_line_error(done, "is not a plan", "corpus-builder plan")
        assert not (tmp_path / "run").exists()

    def test_a_plan_whose_trials_were_changed(self, undisturbed, command, tmp_path):
        table = pq.read_table(undisturbed / "plan.parquet")
        index = table.schema.get_field_index("seed")
        changed = table.set_column(index, table.schema.field("seed"), [[7] * len(table)])
        pq.write_table(changed, tmp_path / "p.parquet")
        done = command("corpus-builder", "run", tmp_path / "p.parquet", "--run-dir", tmp_path / "run")
        assert_one_line_error(done, "is not what its columns say")

    def test_missing_data_and_weights(self, command, tmp_path):
        study = write_study(
            tmp_path / "s.yaml",
            datasets=["head_ct_hemorrhage"],
            backbones=["resnet20.cifar10"],
            image_size={"2d": [16, 16]},
        )
        assert command("corpus-builder", "plan", study, "--out", tmp_path / "p.parquet").returncode == 0
        bare = {"MEDCURVES_DATA": "", "MEDCURVES_WEIGHTS": ""}
        done = command("corpus-builder", "run", tmp_path / "p.parquet", "--run-dir", tmp_path / "run", env=bare)
        assert_one_line_error(done, "resnet20.cifar10", "--weights-root")
        assert not (tmp_path / "run").exists()

    def test_data_that_are_not_there(self, command, tmp_path):
        study = write_study(
            tmp_path / "s.yaml",
            datasets=["head_ct_hemorrhage"],
            backbones=["tiny_2d.scratch"],
            image_size={"2d": [16, 16]},
        )
        assert command("corpus-builder", "plan", study, "--out", tmp_path / "p.parquet").returncode == 0
        arguments = ("run", tmp_path / "p.parquet", "--run-dir", tmp_path / "run", "--data-root", tmp_path)
        done = command("corpus-builder", *arguments)
        assert_one_line_error(done, "head_ct_hemorrhage", "data.npz", "--data-root")
        folder = tmp_path / "head_ct_hemorrhage"
        folder.mkdir()
        (folder / "data.npz").write_bytes(b"PK\x03\x04 truncated")
        assert_one_line_error(command("corpus-builder", *arguments), "data.npz")
        assert not (tmp_path / "run").exists()

    def test_data_that_contradict_their_card(self, command, tmp_path):
        """A card of one's own, named by its path, over files that are not what it says."""
        folder = tmp_path / "toy"
        folder.mkdir()
        images = np.random.default_rng(0).integers(0, 256, (40, 12, 12), dtype=np.uint8)
        groups = np.repeat([f"p{i}" for i in range(20)], 2)

        def run(**arrays):
            np.savez(folder / "data.npz", images=images, group_ids=groups, **arrays)
            (tmp_path / "toy.md").write_text(own_card(folder / "data.npz"))
            study = write_study(
                tmp_path / "s.yaml",
                datasets=[str(tmp_path / "toy.md")],
                backbones=["tiny_2d.scratch"],
                image_size={"2d": [8, 8]},
                caps={},
                epochs=1,
                designs={"grid": {"weight_decay": [1e-4], "augmentation": ["none"]}},
            )
            planned = command("corpus-builder", "plan", study, "--out", tmp_path / "p.parquet")
            assert planned.returncode == 0, planned.stderr
            line = ("run", tmp_path / "p.parquet", "--run-dir", tmp_path / "run", "--data-root", tmp_path)
            return command("corpus-builder", *line)

        short = run(labels=np.tile([0, 1], 19))
        assert_one_line_error(short, "data.npz", "38", "40")
        outside = run(labels=np.repeat(np.tile([0, 2], 10), 2))
        assert_one_line_error(outside, "data.npz", "2")
        assert not (tmp_path / "run").exists()
        sound = run(labels=np.repeat(np.tile([0, 1], 10), 2))
        assert sound.returncode == 0, sound.stderr
        assert "6 completed" in sound.stdout

    def test_a_device_that_is_not_here(self, undisturbed, command, tmp_path):
        for device, words in (("tpu", "unknown device"), ("cuda:99", "is not here")):
            arguments = ("run", undisturbed / "plan.parquet", "--run-dir", tmp_path / "run", "--device", device)
            assert_one_line_error(command("corpus-builder", *arguments), words)
        assert not (tmp_path / "run").exists()

    def test_a_directory_of_something_else(self, undisturbed, command, tmp_path):
        (tmp_path / "letter.txt").write_text("dear")
        done = command("corpus-builder", "run", undisturbed / "plan.parquet", "--run-dir", tmp_path)
        assert_one_line_error(done, "not a run directory and not empty")
        assert_one_line_error(command("corpus-builder", "status", tmp_path), "not a run directory")

    def test_another_plan_in_the_same_directory(self, undisturbed, command, tmp_path):
        study = write_study(tmp_path / "s.yaml", seeds=[1])
        assert command("corpus-builder", "plan", study, "--out", tmp_path / "p.parquet").returncode == 0
        done = command("corpus-builder", "run", tmp_path / "p.parquet", "--run-dir", undisturbed / "run")
        assert_one_line_error(done, "was begun for another plan")
