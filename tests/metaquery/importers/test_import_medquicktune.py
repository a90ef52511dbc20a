"""MedQuickTune's portfolio: crashes become failures, padding goes, what is no count becomes null."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import metaquery as mq
from metaquery.errors import InvalidData
from metaquery.importers import import_corpus

CONFIG = """,model_type,dataset,gradient_accumulation_steps,conv1_t_stride,learning_rate,no_max_pool,label_smoothing,\
bn_size,batch_size,model,widen_factor,act,resnet_type,growth_rate,dropout_prob,warmup_epochs,scheduler_type,\
weight_decay,mixup_alpha,remove_last_block,optimizer_type,conv1_t_size,densenet_type,init_features
1,,liver,1,,0.0001,,0.1,4.0,1,densenet,,relu,,26.0,0.2,1,warmup,0.0008,0.2,True,sgd,,densenet121,64.0
2,,liver,2,2.0,0.003,True,0.02,,3,resnet,1.4,gelu,resnet18,,,0,cosine_warmup,3e-06,0.2,,adam,5.0,,
3,,hcc,1,1.0,0.0002,False,0.1,,2,resnet,1.5,relu,resnet34,,,2,warmup,3e-05,0.3,,adam,3.0,,
4,,hcc,1,1.0,0.0003,False,0.1,,2,resnet,1.5,relu,resnet50,,,2,warmup,3e-05,0.3,,adam,3.0,,
"""
CURVE = """,0,1,2,3,4,5
1,48.0,44.0,50.0,53.0,53.0,53.0
2,0.0,0.0,0.0,0.0,0.0,0.0
3,51.0,52.0,51.0,55.0,0.0,0.0
4,60.0,60.0,60.0,60.0,0.0,0.0
"""
COST = ",cost\n1,400.0\n2,1.5\n3,800.0\n4,90.0\n"
META = """,dataset,num_classes,input_channels,input_size_h,input_size_w,input_size_d,modality,total_num_samples
1,liver,2,1,256,256,32,MRI,1500
2,liver,2,1,256,256,32,MRI,1500
3,hcc,2,1,256,128,96,MRI,1500
4,hcc,2,1,256,128,96,MRI,1500
"""


def write_portfolio(path: Path, **changes: str) -> Path:
    path.mkdir(exist_ok=True)
    for name, text in {"config": CONFIG, "curve": CURVE, "cost": COST, "meta": META, **changes}.items():
        (path / f"{name}.csv").write_text(text)
    return path


def test_content(tmp_path: Path, imported: Any) -> None:
    corpus = imported("medquicktune", write_portfolio(tmp_path / "portfolio"))
    assert (corpus.epochs, corpus.default_metric) == (6, "auc")
    trials = corpus.sql(
        """select learning_rate, status, epochs_run, epochs_planned, total_seconds, cost_source, error is not null,
                  backbone, no_max_pool, remove_last_block, growth_rate
           from trials join configs using (config_id) order by 1"""
    ).rows()
    assert trials == [
        (0.0001, "early_stopped", 4, 6, 400.0, "spread", False, "densenet121", None, "yes", 26),
        (0.0002, "completed", 4, 4, 800.0, "spread", False, "resnet34", "no", None, None),
        (0.0003, "early_stopped", 1, 4, 90.0, "spread", False, "resnet50", "no", None, None),
        (0.003, "failed", 0, 6, 1.5, "spread", True, "resnet18", "yes", None, None),
    ]
    curves = corpus.sql(
        """select list(val_auc::double order by epoch), list(train_seconds order by epoch)
           from curves join trials using (trial_id) group by trial_id order by max(total_seconds)"""
    ).rows()
    assert curves == [
        (pytest.approx([0.6]), [90.0]),
        (pytest.approx([0.48, 0.44, 0.50, 0.53]), [100.0] * 4),
        (pytest.approx([0.51, 0.52, 0.51, 0.55]), [200.0] * 4),
    ]
    assert corpus.sql("select dataset, n_samples, shape, family, n_dims from datasets order by 1").rows() == [
        ("hcc", None, [96, 256, 128], "liver", 3),
        ("liver", None, [32, 256, 256], "liver", 3),
    ]
    notes = corpus.manifest["imported"]["notes"]
    assert "1 row of zeros became failed trials without an epoch." in notes
    assert "Constant tails were cut, 5 epochs of 2 runs, which are early_stopped." in notes
    assert "Runs of hcc have 4 epochs: 2 zeros at the end of each were dropped." in notes


def test_full_fidelity_is_that_of_the_dataset(tmp_path: Path, imported: Any) -> None:
    corpus: mq.Corpus = imported("medquicktune", write_portfolio(tmp_path / "portfolio"))
    assert (corpus.benchmark("hcc").epochs, corpus.benchmark("liver").epochs) == (4, 6)


def test_counts_that_differ_are_kept(tmp_path: Path, imported: Any) -> None:
    meta = META.replace("MRI,1500\n2", "MRI,188\n2").replace("MRI,1500\n3", "MRI,188\n3")
    corpus = imported("medquicktune", write_portfolio(tmp_path / "portfolio", meta=meta))
    assert corpus.sql("select n_samples from datasets order by dataset").rows() == [(1500,), (188,)]


def test_every_command_works(tmp_path: Path, imported: Any, every_command: Any) -> None:
    every_command(imported("medquicktune", write_portfolio(tmp_path / "portfolio")), "liver")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost": COST.replace("4,", "5,")}, "are not those of config.csv"),
        ({"cost": COST.replace("cost", "price")}, "lacks the columns cost"),
        (
            {"config": CONFIG.replace("0.003", "0.3")},
            r"row 2: learning_rate must be a number in \[1e-05, 0.01\], got 0.3",
        ),
        ({"meta": META.replace("4,hcc,2", "4,hcc,3")}, "describes a dataset differently"),
        ({"meta": META.replace("4,hcc", "4,liver")}, "name different datasets"),
        ({"curve": CURVE.replace("44.0", "")}, "must hold a number in every cell"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    portfolio = write_portfolio(tmp_path / "portfolio", **changes)
    with pytest.raises(InvalidData, match=message):
        import_corpus("medquicktune", portfolio, tmp_path / "corpus")


def test_the_real_portfolio(curves_root: Path, imported: Any) -> None:
    corpus = imported("medquicktune", curves_root / "medquicktune_portfolio")
    statuses = dict(corpus.sql("select status, count(*) from trials group by 1").rows())
    assert statuses == {"early_stopped": 325, "failed": 168, "completed": 12}
    assert corpus.sql("select round(sum(total_seconds) / 3600, 1) from trials").rows() == [(420.2,)]
    repeated = """select count(*) from (
        select val_auc - lag(val_auc) over (partition by trial_id order by epoch) as step, trial_id, epoch from curves)
        join trials using (trial_id) where epoch = epochs_run and step = 0"""
    assert corpus.sql(repeated).rows() == [(0,)]
    assert corpus.benchmark("desmoid").epochs == 21
