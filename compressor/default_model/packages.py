"""Files inside installed packages that carry base checkpoints."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from compressor.errors import ModelFilesMissing


def package_file(package: str, name: str) -> Path:
    """A file inside an installed package, which is not imported. Raises ModelFilesMissing."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / name if spec and spec.origin else None
    if path is None or not path.exists():
        raise ModelFilesMissing(
            f"{name} not found: install the package {package.replace('_', '-')} (with --no-deps)"
        )
    return path
