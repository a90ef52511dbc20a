#!/usr/bin/env bash
# The main job end to end, without data, weights or a GPU: `make demo` runs it.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf demo
mkdir demo

echo "== 1/4 Fine-tune a small plan on synthetic nodules"
corpus-builder plan studies/demo.yaml --out demo/plan.parquet
corpus-builder run demo/plan.parquet --run-dir demo/run

echo "== 2/4 Seal the curves into a corpus"
corpus-builder seal demo/run --out demo/corpus
metaquery verify demo/corpus

echo "== 3/4 Ask it"
metaquery sql demo/corpus "
    select optimizer, lr, round(max(val_auc), 3) as best_val_auc, round(sum(train_seconds), 2) as train_seconds
    from curves join trials using (trial_id) join configs using (config_id)
    group by all order by best_val_auc desc"

echo "== 4/4 Compare random search and DEHB on the bundled corpus"
metaquery evaluate mini --optimizers random,dehb --seeds 10 --budget 10m --out demo/evaluation
