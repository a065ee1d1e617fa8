"""Pages that a reader follows step by step, followed: a real service with the default model."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import skimage
from PIL import Image

from bench.serving import Serving, precis_serve, serving
from precis_client import Precis
from tests.compressor.production import llava as small_llava
from tests.docs.blocks import blocks, commands
from tests.docs.fake_llm import fake_llm, parts
from tests.docs.session import Reader
from tests.docs.test_blocks import PAGES

FOLLOWED = [
    "README.md",
    "clients/python/README.md",
    "docs/quickstart.md",
    "docs/tutorials/photographs.md",
]
VISUAL_RAG = "docs/tutorials/visual-rag.md"
ADAPTERS = "docs/tutorials/llava-adapters.md"
# The page's recipe is for a GPU, and for days.
SMALL_RUN = {
    "steps = 1000": "steps = 2",
    "batch_size = 64": "batch_size = 4",
    "micro_batch_size = 8": "micro_batch_size = 2",
    'dtype = "bfloat16"': 'dtype = "float32"',
    "token_count = 16": "token_count = 4",
    "workers = 4": "workers = 0",
}
# Pages whose blocks are only checked (tests/docs/test_blocks.py), each for a reason.
CHECKED_ONLY = {
    "CONTRIBUTING.md": "runs every test",
    "bench/README.md": "measures for minutes; tests/test_bench.py runs each at its smallest",
    "clients/langchain/README.md": "tests/integrations/test_pages.py runs it",
    "clients/llamaindex/README.md": "tests/integrations/test_pages.py runs it",
    "clients/typescript/README.md": "needs Node; tests/clients/test_typescript.py runs it",
    "docs/ablation.md": "trains for days",
    "docs/api.md": "shows parts of requests; tests/service sends whole ones",
    "docs/commands.md": "names commands; the followed pages run them",
    "docs/evaluation.md": "needs public data sets",
    "docs/how-to/container.md": "needs a container runtime",
    "docs/how-to/agents.md": "shows a file of the host; tests/service/test_mcp.py is one",
    "docs/how-to/frameworks.md": "tests/integrations/test_pages.py runs it",
    "docs/how-to/kubernetes.md": "needs a cluster; tests/deploy checks the manifests",
    "docs/how-to/move.md": "changes the library; tests/service/commands does so",
    "docs/how-to/rate.md": "tests/docs/test_notebook.py runs the notebook",
    "docs/scaling.md": "tests/deploy/test_scaling.py computes its tables",
    "docs/settings.md": "shows two lines of a file",
    "docs/how-to/share.md": "makes API keys; tests/service does so",
    "docs/how-to/own-model.md": "needs an LVLM of some gigabytes",
    "docs/operations.md": "needs servers of stores; tests/stores starts them",
    "docs/tutorials/cluster.md": "needs servers and a cluster; tests/stores and tests/cluster do",
    "docs/training.md": "trains for hours; tests/compressor/training follows it with a tiny LVLM",
}


def test_every_page_with_blocks_is_followed_or_excused() -> None:
    with_blocks = {page for page in PAGES if blocks(page)}
    assert with_blocks == {*FOLLOWED, VISUAL_RAG, ADAPTERS, *CHECKED_ONLY}


@pytest.fixture(scope="module")
def service_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("docs") / "service"


@pytest.fixture(scope="module")
def service(service_folder: Path) -> Iterator[Serving]:
    def command(data_dir: Path) -> Sequence[str]:
        return [*precis_serve(data_dir), "--keep", "original"]

    with serving(service_folder, command) as running:
        yield running


@pytest.fixture
def reader(service: Serving, service_folder: Path, tmp_path: Path) -> Reader:
    """With an empty library, photographs in `~/Pictures` and some beside the page's commands."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        for image in client.get("/images?limit=200").json()["images"]:
            client.delete(f"/images/{image['id']}").raise_for_status()
    home, folder = tmp_path / "home", tmp_path / "folder"
    activate = folder / ".venv" / "bin" / "activate"
    for path in (home / "Pictures", activate.parent):
        path.mkdir(parents=True)
    activate.touch()
    photographs = Path(skimage.__file__).parent / "data"
    for name in ("chelsea.png", "rocket.jpg"):
        shutil.copy(photographs / name, home / "Pictures")
    shutil.copy(photographs / "chelsea.png", folder)
    for name in ("cat.jpg", "another-cat.jpg"):
        shutil.copy(photographs / "chelsea.png", folder / name)
    data_dir = service_folder / "data"
    environment = {"HOME": str(home), "PRECIS_DATA_DIR": str(data_dir)}
    return Reader(folder, service.url, environment)


@pytest.mark.model
@pytest.mark.parametrize("page", FOLLOWED)
def test_following_the_page(reader: Reader, page: str) -> None:
    reader.read(page)


@pytest.mark.model
def test_following_visual_rag(reader: Reader) -> None:
    with fake_llm() as llm:
        replace(reader, changes={"http://127.0.0.1:8080": llm.url}).read(VISUAL_RAG)
    answers, pictures = llm.asked
    evidence = parts(answers)[0]["text"]
    assert "chelsea.png (confidence " in evidence
    assert parts(answers)[1]["text"] == "Where do I have a picture of a cat?"
    urls = [part["image_url"]["url"] for part in parts(pictures)[1:]]
    assert len(urls) == 2
    for url in urls:
        _, _, webp = url.partition("data:image/webp;base64,")
        assert Image.open(io.BytesIO(base64.b64decode(webp))).format == "WEBP"


def test_following_the_training_of_adapters(tmp_path: Path) -> None:
    model = tmp_path / "models" / "llava-1.5-7b-hf"
    for part in small_llava():
        part.save_pretrained(model)
    home = {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    Reader(tmp_path, "unused", home, SMALL_RUN).read(ADAPTERS)
    (serve,) = [
        words
        for block in blocks(ADAPTERS)
        if block.language == "sh"
        for words in commands(block.code)
        if words[:2] == ["precis", "serve"]
    ]

    def command(data_dir: Path) -> Sequence[str]:
        options = [
            word.replace("~", str(tmp_path)).replace(
                "my-adapters", str(tmp_path / "my-adapters")
            )
            for word in serve[2:]
        ]
        return [*precis_serve(data_dir), *options]

    with (
        serving(tmp_path / "service", command) as running,
        Precis(running.url) as precis,
    ):
        (image,) = precis.add(tmp_path / "my-data" / "images" / "chelsea.png")
        assert image.mode == "adapters"
        assert image.tokens.count == 4
        assert precis.search("a cat")[0].id == image.id
