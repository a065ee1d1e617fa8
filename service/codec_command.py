"""`precis codec`: trains a token codec on a model's own summary tokens.

Knows nothing of models: tokens come as a NumPy file, as `precis train retrieval --tokens` writes it.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from index.codec_training import train_codec, write_state
from index.errors import IndexingError

_KEPT_BACK = 10  # every so many images only measure


@click.command()
@click.argument("kind")
@click.argument("tokens", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def codec(kind: str, tokens: Path, folder: Path) -> None:
    """Train codec KIND (pq48, opq64, rq32) on TOKENS (npy, images x K x D) and write its state into FOLDER."""
    try:
        images = np.load(tokens, allow_pickle=False)
        if images.ndim != 3:
            raise click.ClickException(f"{tokens} does not hold images x K x D values")
        measured = images[::_KEPT_BACK]
        trained = np.delete(images, slice(None, None, _KEPT_BACK), axis=0)
        found = train_codec(kind, trained.reshape(-1, images.shape[2]).astype(np.float32))
        kept = found.encode(measured.astype(np.float32))
        read = np.stack([found.decode(data, *images.shape[1:]) for data in kept])
        write_state(found, folder / f"{kind}.faiss")
    except (IndexingError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    lost = float(((read - measured) ** 2).sum() / ((measured - measured.mean((0, 1))) ** 2).sum())
    click.echo(f"{found.name}: {len(kept[0])} bytes an image, {100 * lost:.1f} % of the variance lost")
