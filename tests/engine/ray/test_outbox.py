"""The outbox of an actor: tells every source once, and as ended only what is safe."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from fake_reader import fake_source

from umedfeat.contract import Failure, Plan, Source, make_regions
from umedfeat.engine.ray.messages import Lease
from umedfeat.engine.ray.outbox import Outbox
from umedfeat.engine.seconds import StageSeconds
from umedfeat.store import FeatureFile, Header
from umedfeat.store.segment import SegmentWriter, claimed_place, segment_files

PLAN = Plan(make_regions(np.arange(3), 0), (16, 16), "uint8", "fake", "OT", 16, 16, content_sha256="0" * 64)
FEATURES = np.ones((3, 4), np.float32)


def expecting(outbox: Outbox, *names: str) -> list[Source]:
    sources = [fake_source(name) for name in names]
    outbox.expect(Lease(number, source) for number, source in enumerate(sources))
    return sources


def test_everything_is_told_once() -> None:
    outbox = Outbox()
    one, two = expecting(outbox, "a", "b")
    outbox.planned(3)
    outbox.encoded(3)
    outbox.embedded(one, PLAN, FEATURES, ())
    outbox.failed(two, Failure("b", "read", "UnreadableInput", "bad bytes"))
    told = outbox.report(0, StageSeconds())
    assert [ended.number for ended in told.ended] == [0, 1] == list(told.computed)
    assert told.ended[0].features is not None and told.ended[1].failure is not None
    assert (told.planned, told.encoded) == ((3,), 3)
    again = outbox.report(0, StageSeconds())
    assert (again.ended, again.computed, again.planned, again.encoded) == ((), (), (), 0)


def test_a_report_waits_for_something_to_tell() -> None:
    outbox = Outbox()
    (source,) = expecting(outbox, "a")
    threading.Timer(0.05, lambda: outbox.embedded(source, PLAN, FEATURES, ())).start()
    assert len(outbox.report(30, StageSeconds()).ended) == 1


def test_reports_carry_no_more_than_memory_holds() -> None:
    outbox = Outbox()
    huge = np.zeros((20_000_000, 1), np.float32)  # 80 MB
    for source in expecting(outbox, "a", "b"):
        outbox.embedded(source, PLAN, huge, ())
    assert [len(outbox.report(0, StageSeconds()).ended) for _ in range(3)] == [1, 1, 0]


def test_what_lies_in_segments_is_told_when_it_is_on_disk(tmp_path: Path) -> None:
    """As computed at once, so that the actor gets more; as ended when the segment is whole."""
    out = tmp_path / "feats.h5"
    writer = SegmentWriter(*claimed_place(out, Header({"name": "fake"}, {}), 4))
    outbox = Outbox(writer)
    one, two = expecting(outbox, "a", "b")
    outbox.embedded(one, PLAN, FEATURES, ())
    early = outbox.report(0, StageSeconds())
    assert early.computed == (0,) and not early.ended and not segment_files(out)
    outbox.embedded(two, PLAN, FEATURES, ())  # nothing else is under way: no reason to wait
    late = outbox.report(0, StageSeconds())
    assert [(ended.number, ended.features) for ended in late.ended] == [(0, None), (1, None)]
    (segment,) = segment_files(out)
    with FeatureFile(segment) as file:
        assert sorted(file.ids) == ["a", "b"]
    writer.close()
