"""The stopwatch: what it adds up, and what it tells its observer."""

from __future__ import annotations

from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.worker.request_context import Stopwatch


@given(st.lists(st.sampled_from(["decode", "model", "store"]), max_size=12))
def test_the_observer_is_told_of_each_run_of_laps_once(laps: list[str]) -> None:
    told: list[tuple[str, int, int]] = []
    watch = Stopwatch(lambda *stage: told.append(stage))
    for stage in laps:
        watch.lap(stage)
    timings_ms = watch.timings_ms()
    watch.report()
    assert [stage for stage, _, _ in told] == [stage for stage, _ in groupby(laps)]
    assert set(timings_ms) == {*laps, "total"}
    # One stage begins where the one before it ends.
    for (_, _, ended_ns), (_, started_ns, _) in pairwise(told):
        assert started_ns == ended_ns
    for stage in set(laps):
        spent_ns = sum(
            ended - started for name, started, ended in told if name == stage
        )
        assert abs(spent_ns / 1e6 - timings_ms[stage]) < 0.01


def test_an_answer_s_pieces_are_one_stage() -> None:
    told: list[str] = []
    watch = Stopwatch(lambda stage, *_: told.append(stage))
    for stage in ("first_token", "generate", "generate", "generate"):
        watch.lap(stage)
    assert told == ["first_token"]
    watch.report()
    assert told == ["first_token", "generate"]
