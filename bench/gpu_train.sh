#!/usr/bin/env bash
# Trains both stages of the default model on one card, after bench/gpu_unpack.sh:
#
#     bench/gpu_train.sh OUT [DATA [RECIPES]]     /tmp/site/data and compressor/default_model/recipes
#
# STAGE1 and STAGE2 limit each stage in seconds (240 and 300): a stage that is out of time is resumed
# for the steps that it has, so that its parts are written. OUT holds pieces of one tar, at most
# 15 MiB each: parts of the base, adapters, logs.
#
# SUFFIX chooses the recipes base$SUFFIX.toml and fwd2bot$SUFFIX.toml ("-gpu").
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
data=${2:-/tmp/site/data}
recipes=${3:-compressor/default_model/recipes}
suffix=${SUFFIX--gpu}
work=${WORK:-/tmp/precis-training}
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1
mkdir -p "$out" "$work"

train() { # SECONDS RUN RECIPE ARGUMENTS…
    local seconds=$1 run=$2 recipe=$3
    shift 3
    if ! timeout "$seconds" "$python" -m compressor.default_model.cli "$@" \
        --run "$run" --recipe "$recipe"; then
        # The checkpoint's own step is the last: what is left is to write the parts.
        local steps
        steps=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["step"])' \
            "$run/checkpoint/state.json")
        sed "s/^steps = .*/steps = $steps/" "$recipe" >"$work/resumed.toml"
        "$python" -m compressor.default_model.cli "$@" --run "$run" --recipe "$work/resumed.toml"
    fi
}

mix() { # NAME WEIGHT …: the arguments for those that the cargo has, into `mixed`
    mixed=()
    while (($#)); do
        if [ -e "$data/$1/index.jsonl" ]; then mixed+=(--data "$data/$1" --weight "$2"); fi
        shift 2
    done
}

"$python" -m compressor.default_model.cli base-folder "$work/base"
mix flickr_train 0.9 align 1.3 named_train 0.35 renamed_train 0.25
train "${STAGE1:-240}" "$work/run-base" "$recipes/base$suffix.toml" base --model "$work/base" \
    "${mixed[@]}" --parts "$work/base-parts" --merged "$work/base-tuned"
mix flickr_train 1.4 align 0.3 named_train 0.5 renamed_train 1.1 together_train 0.6
train "${STAGE2:-300}" "$work/run-fwd2bot" "$recipes/fwd2bot$suffix.toml" lvlm \
    --model "$work/base-tuned" "${mixed[@]}" --adapters "$work/adapters"
tar -C "$work" -cf - base-parts adapters run-base/log.jsonl run-fwd2bot/log.jsonl |
    split --bytes=$((15 * 1024 * 1024)) --numeric-suffixes - "$out/trained.tar."
