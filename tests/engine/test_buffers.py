"""Features of huge sources wait on disk: room is taken beforehand, rows are dropped in place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from umedfeat.engine import buffers
from umedfeat.engine.buffers import keep_rows, new_buffer
from umedfeat.errors import OutputError


def test_small_in_memory_huge_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not isinstance(new_buffer(10, 4, tmp_path), np.memmap)
    monkeypatch.setattr(buffers, "_SPILL_BYTES", 100)
    mapped = new_buffer(10, 4, tmp_path)
    assert isinstance(mapped, np.memmap)
    mapped[:] = 7
    assert (mapped == 7).all()
    assert list(tmp_path.iterdir()) == []  # gone when the process is


def test_no_room_is_told_before_anything_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a mapped file without a block behind it would end the process."""

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(buffers, "_SPILL_BYTES", 100)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="the disk is full: 0 MB needed for the features of one input"):
        new_buffer(10, 4, tmp_path)


def test_file_systems_that_cannot_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(buffers, "_SPILL_BYTES", 100)
    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    assert new_buffer(10, 4, tmp_path).shape == (10, 4)
    with pytest.raises(OutputError, match="the disk is full"):
        new_buffer(1 << 50, 4, tmp_path)


@pytest.mark.parametrize("lost", [[], [0], [9999], [3, 4, 8191, 8192, 9000], list(range(10_000))])
def test_rows_are_dropped_in_place(lost: list[int]) -> None:
    features = np.arange(20_000, dtype=np.float32).reshape(10_000, 2)
    kept = np.ones(10_000, dtype=bool)
    kept[lost] = False
    expected = features[kept].copy()
    left = keep_rows(features, kept)
    np.testing.assert_array_equal(left, expected)
    assert np.shares_memory(left, features) or not len(left)
