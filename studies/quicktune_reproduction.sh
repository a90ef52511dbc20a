#!/usr/bin/env bash
# Quick-Tune's comparison on the whole "extended" level of its meta-dataset, as studies/quicktune-reproduction.md tells it.
# Usage: studies/quicktune_reproduction.sh EXTENDED [OUT], with the directory of perf.json, cost.json and table.csv.
# Interrupted, the same command goes on from the finished studies.
set -euo pipefail
extended=${1:?the directory of perf.json, cost.json, table.csv and descriptors.json}
out=${2:-quicktune_reproduction}
mkdir -p "$out"

if [ ! -d "$out/corpus" ]; then
    metaquery import quicktune "$extended" --out "$out/corpus"
fi
metaquery verify "$out/corpus"

quicktune=quicktune,quicktune:meta=false,quicktune:cost=false,quicktune:grey_box=false
metaquery evaluate "$out/corpus" --protocol quicktune --seeds 5 --processes 2 --out "$out/evaluation" \
    --optimizers "random,asha,hyperband,dehb,dyhpo,$quicktune"
