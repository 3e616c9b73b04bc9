"""Where the time went, of a run that several did."""

from __future__ import annotations

from umedfeat.engine.seconds import StageSeconds, summed


def test_parts_are_added_up() -> None:
    one = StageSeconds(plan=1, read=2, encode=8, encode_span=10, devices=1, regions=5, images_at_once=None)
    two = StageSeconds(plan=2, read=3, encode=4, encode_span=8, devices=2, regions=7, images_at_once=32)
    one.waited["read"], two.waited["read"] = 2.0, 4.0
    both = summed([one, two], wall=12, write=0.5)
    assert (both.plan, both.read, both.encode, both.regions, both.devices) == (3, 5, 12, 12, 3)
    assert both.device_busy == 12 / (10 + 2 * 8)
    assert both.waits["read"] == 3 / 12 and both.images_at_once == 32


def test_nobody_has_begun() -> None:
    assert summed([], wall=1, write=0).device_busy == 0
