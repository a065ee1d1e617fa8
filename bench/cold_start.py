"""How long the service takes to its first answer after `precis serve`, and how much memory it
keeps.

Starts the real command several times, each with an empty library, until /readyz says 200 (the model
is warm by then); reads the resident memory there, and again after photographs were added and a
question was answered. Physical limit: every byte of the weights must be read once, which is timed
beside (from the page cache, as the starts are); memory cannot fall below the weights themselves.
The rest is imports and warming up.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from bench.measure import Figure, report, seconds
from bench.photographs import write_jpegs
from bench.serving import Command, precis_serve, serving
from precis_client.ingestion import Ingestion
from precis_client.sync_client import Precis

GB = 1e9


def run(
    *,
    starts: int = 3,
    photographs: int = 16,
    command: Command = precis_serve,
    model_dir: Path,
) -> None:
    """Measures `starts` starts and reports."""
    ready_s, reading_s, resident_ready, resident_warm = [], [], [], []
    weights = [path for path in model_dir.rglob("*") if path.is_file()]
    with tempfile.TemporaryDirectory() as folder:
        paths = write_jpegs(Path(folder, "photographs"), photographs)
        for number in range(starts):
            reading_s.append(seconds(lambda: [path.read_bytes() for path in weights]))
            with (
                serving(Path(folder, f"start-{number}"), command) as service,
                Precis(service.url) as precis,
            ):
                ready_s.append(service.ready_s)
                resident_ready.append(service.resident_bytes())
                ingestion = Ingestion(precis, paths, most_in_flight=photographs)
                for outcome in ingestion.outcomes():
                    assert outcome.status == "created", outcome.reason
                precis.ask("What is in the image?")
                resident_warm.append(service.resident_bytes())
    report(
        "cold_start",
        [
            Figure("ready_s", median(ready_s), at_most=4),
            Figure("reading_the_weights_s", median(reading_s)),
            Figure("weights_gb", sum(path.stat().st_size for path in weights) / GB),
            Figure("resident_when_ready_gb", max(resident_ready) / GB, at_most=0.7),
            Figure(
                "resident_after_use_gb",
                max(resident_warm) / GB,
                at_most=0.9,
            ),
        ],
    )


if __name__ == "__main__":
    from bench.default_model import base_folder

    run(model_dir=base_folder())
