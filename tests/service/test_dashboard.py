"""The Grafana dashboard in deploy/: it asks for what the service exports, and for all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from compressor.ports import PrefixStats
from tests.fakes.model import FakeGenerator
from tests.service.conftest import Start, add, ask, factory, search, upload

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "precis.json"
METRIC = re.compile(r"\b(?:precis|process)_\w+")
LABELS = re.compile(r"by \(([^)]*)\)")
# Those that Prometheus adds to every sample.
ADDED = {"job", "instance"}


def expressions() -> Iterator[str]:
    """Every query of the dashboard, those of its variables included."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        query = variable["query"]
        if isinstance(query, dict):
            yield query["query"]


class KeepingGenerator(FakeGenerator):
    """A fake generator that keeps what it has computed of prompts."""

    def prefix_stats(self) -> PrefixStats:
        return PrefixStats(tokens_read=9, tokens_reused=4, held_bytes=100)


@pytest.fixture
def samples(start: Start) -> dict[str, set[str]]:
    """The labels of each sample that a service exports that has done everything once."""
    client = start(factory(generator=KeepingGenerator()), raise_errors=False)
    client.put("/collections/pets")
    (red,) = add(client, "red")
    upload(client, "blue", params={"collection": "pets"})
    search(client, "red")
    ask(client, "What is it?", image_ids=[red])
    client.get("/images/unknown")
    families = text_string_to_metric_families(client.get("/metrics").text)
    labels: dict[str, set[str]] = {}
    for family in families:
        # Those without a sample yet, by what the family is.
        suffixes: dict[str, tuple[str, ...]] = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_sum", "_count"),
        }
        for suffix in suffixes.get(family.type, ("",)):
            labels.setdefault(family.name + suffix, set())
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def without_suffix(name: str) -> str:
    return re.sub(r"_(bucket|sum|count|total|created)$", "", name)


def test_every_metric_of_the_dashboard_is_exported_with_its_labels(
    samples: dict[str, set[str]],
) -> None:
    asked: list[Any] = list(expressions())
    assert asked
    for expression in asked:
        names = METRIC.findall(expression)
        assert names
        for name in names:
            assert name in samples, expression
        grouped = [
            label for part in LABELS.findall(expression) for label in part.split(",")
        ]
        for label in map(str.strip, grouped):
            # A counter of errors that never happened has no labels yet.
            known = [samples[name] for name in names if samples[name]]
            assert all(label in labels | ADDED for labels in known), expression


def test_every_metric_of_the_service_is_on_the_dashboard(
    samples: dict[str, set[str]],
) -> None:
    asked = {
        without_suffix(name) for text in expressions() for name in METRIC.findall(text)
    }
    exported = {without_suffix(name) for name in samples if name.startswith("precis_")}
    assert exported <= asked
