"""Wherever writing stops, an error tells it; HDF5 alone loses some faults and ends the process over others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from limits import longest_file
from store_cases import item, write

from umedfeat.errors import OutputError
from umedfeat.store import export, merge
from umedfeat.store.new_hdf5 import new_hdf5

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")


@pytest.mark.parametrize("layout", ["clam", "stamp"])
def test_an_export_tells_of_every_write_that_fails(layout: str, tmp_path: Path) -> None:
    feats = write(tmp_path / "feats.h5", [item("one", 40, label="x")])
    whole = tmp_path / "whole"
    export(feats, whole, layout)
    size = max(path.stat().st_size for path in whole.rglob("*.h5"))
    for number, limit in enumerate(range(0, size, 300)):
        out = tmp_path / str(number)
        with longest_file(limit), pytest.raises(OutputError, match="writing failed"):
            export(feats, out, layout)
        assert not [path for path in out.rglob("*") if path.is_file()]


def test_a_merge_tells_of_every_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umedfeat.store.file_writer.reserve", lambda descriptor, size: None)  # as where none can be
    parts = [write(tmp_path / f"{name}.h5", [item(name, 40, label="x")]) for name in ("one", "two")]
    merge(parts, tmp_path / "whole.h5")
    size = (tmp_path / "whole.h5").stat().st_size
    for number, limit in enumerate(range(100, size, size // 40)):
        out = tmp_path / f"{number}.h5"
        with longest_file(limit), pytest.raises(OutputError, match="writing failed"):
            merge(parts, out)
        assert not out.exists()


def test_nothing_is_written_after_a_fault(tmp_path: Path) -> None:
    with longest_file(2000), pytest.raises(OSError, match="large"), new_hdf5(tmp_path / "x.h5") as (file, target):
        file["values"] = [1.0] * 1000
        file.flush()
        assert target.fault is not None
        length = (tmp_path / "x.h5").stat().st_size
        file["more"] = [1.0]
        file.flush()
        assert (tmp_path / "x.h5").stat().st_size == length
