#!/usr/bin/env bash
# Runs the ablation study on one card, after bench/gpu_train.sh has tuned the base:
#
#     bench/gpu_ablation.sh OUT [DATA [HELD_OUT]]     /tmp/site/data and DATA/flickr_development
#
# SECONDS_LEFT limits the training (600); the measurement of the run that is under way is finished after
# it. RECORDS is a folder of finished runs of earlier sessions (CELL-seedN/record.json), which are
# skipped. Further arguments of `precis study ablation` (--cell, --seeds) are in STUDY_ARGUMENTS, by
# default "--limit 100".
# OUT holds the records of all finished runs, their logs, the table and the plot, in one tar.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
data=${2:-/tmp/site/data}
held_out=${3:-$data/flickr_development}
work=${WORK:-/tmp/precis-training}
recipe=${RECIPE:-compressor/default_model/recipes/ablation-gpu.toml}
python=${PYTHON:-python3}
run=$work/ablation
export PYTHONUNBUFFERED=1
mkdir -p "$out" "$run"
if [ -n "${RECORDS:-}" ]; then
    cp -r "$RECORDS"/. "$run"
fi

# shellcheck disable=SC2086  # several arguments
"$python" -m compressor.default_model.study ablation --model "$work/base-tuned" \
    --data "$data/flickr_train" --weight 1.6 --data "$data/named_train" --weight 0.7 \
    --held-out "$held_out" --recipe "$recipe" --run "$run" \
    --budget-seconds "${SECONDS_LEFT:-600}" ${STUDY_ARGUMENTS:---limit 100} || status=$?
# Also where a cell diverged: the others' records are good. Checkpoints stay behind, they are large.
(cd "$run" && find . -name record.json -o -name log.jsonl -o -name 'ablation.*') |
    tar -C "$run" -cf "$out/ablation.tar" --files-from -
exit "${status:-0}"
