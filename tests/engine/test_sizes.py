"""Sizes of sources: in their order, however many; what cannot be asked counts nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_reader import fake_source

from umedfeat.engine import sizes
from umedfeat.engine.sizes import bytes_of, largest_first


def test_in_order_over_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "_AT_ONCE", 3)
    sources = []
    for number in range(10):
        (tmp_path / str(number)).write_bytes(b"x" * number)
        sources.append(replace(fake_source(f"s{number}"), files=(tmp_path / str(number),)))
    sources.append(replace(fake_source("gone"), files=(tmp_path / "gone", tmp_path / "7")))
    assert bytes_of(sources) == [*range(10), 7]
    assert bytes_of([]) == []


def test_the_largest_first_of_equal_ones_the_earlier() -> None:
    assert largest_first([3, 9, 3, 10]) == [3, 1, 0, 2]
