"""What lies beside an output: links are not followed, segments of others are left alone, nothing foreign is removed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from store_cases import DIM, header, item, write

from umedfeat.errors import DiskError, OutputError
from umedfeat.store import FeatureFile, FeatureStore, merge, raw_rows, row_checks
from umedfeat.store.segment import partial_folder, segment_files

A, B = item("a", 3), item("b", 2)


def _interrupted(out: Path, *items_: object) -> None:
    with pytest.raises(KeyboardInterrupt), FeatureStore(out, header(), dim=DIM) as store:
        for each in items_:
            store.add(each)  # type: ignore[arg-type]
        raise KeyboardInterrupt


def test_a_linked_folder_of_segments_is_refused(tmp_path: Path) -> None:
    """Its .h5 files were once taken for segments, packed and deleted."""
    out, other = tmp_path / "feats.h5", tmp_path / "other"
    other.mkdir()
    write(other / "precious.h5", [B])
    partial_folder(out).symlink_to(other)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="a link"):
            FeatureStore(out, header(), dim=DIM, overwrite=overwrite).__enter__()
    assert (other / "precious.h5").exists() and not (tmp_path / "feats.h5.lock").exists()


def test_segments_of_another_output_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out, foreign = tmp_path / "feats.h5", tmp_path / "foreign.h5"
    _interrupted(out, A)
    _interrupted(foreign, B)
    planted = [Path(shutil.copy2(path, partial_folder(out))) for path in segment_files(foreign)]
    planted.append(partial_folder(out) / "notes.txt")
    planted[-1].write_text("mine")
    link = segment_files(out)[0].with_name(segment_files(out)[0].name[:-11] + "00000000.h5")
    link.symlink_to(segment_files(foreign)[0])
    with FeatureStore(out, header(), dim=DIM) as store:
        assert store.done == {"a"}
        assert all(path.name in caplog.text for path in planted)
        store.finish({})
    with FeatureFile(out) as file:
        assert file.ids == ("a",)
    assert all(path.exists() for path in planted) and segment_files(foreign)[0].exists()


def test_planted_segments_without_an_owner_are_no_segments(tmp_path: Path) -> None:
    out, foreign = tmp_path / "feats.h5", tmp_path / "foreign.h5"
    _interrupted(foreign, B)
    partial_folder(out).mkdir()
    shutil.copy2(segment_files(foreign)[0], partial_folder(out))
    with FeatureStore(out, header(), dim=DIM) as store:
        assert store.done == frozenset()


def test_a_link_under_a_temporary_name_is_not_written_through(tmp_path: Path) -> None:
    out, precious = tmp_path / "feats.h5", tmp_path / "precious"
    precious.write_text("precious")
    for name in (f".feats.h5.{os.getpid()}.tmp", ".feats.h5.run.json.tmp", ".feats.h5.failures.csv.tmp"):
        (tmp_path / name).symlink_to(precious)
    write(out, [A], failures=["b.svs"])
    (tmp_path / f".merged.h5.{os.getpid()}.tmp").symlink_to(precious)
    merge([out], tmp_path / "merged.h5")
    assert precious.read_text() == "precious"


def test_only_our_own_temporary_files_are_removed(tmp_path: Path) -> None:
    ours, others = tmp_path / ".feats.h5.123.tmp", tmp_path / ".feats.h5.notes.tmp"
    for path in (ours, others):
        path.write_text("x")
    write(tmp_path / "feats.h5", [A])
    assert not ours.exists() and others.exists()


def _eio(*_: object) -> int:
    """What a failing disk answers."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_failing_disk_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO while segments are packed: one line, nothing lost, and the next run goes on."""
    out = tmp_path / "feats.h5"
    _interrupted(out, A)
    _interrupted(out, B)

    with monkeypatch.context() as patch:
        patch.setattr(raw_rows.os, "preadv", _eio)
        with pytest.raises(OutputError, match="the disk reports an error"):
            write(out, [])
    assert len(segment_files(out)) == 2 and not list(tmp_path.rglob("*.tmp"))
    write(out, [])
    with FeatureFile(out) as file:
        assert file.ids == ("a", "b")


def test_a_disk_that_fails_under_a_segment_does_not_make_it_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO while a segment is checked: it is not set aside and embedded anew; the run ends and names the disk."""
    out = tmp_path / "feats.h5"
    _interrupted(out, A)

    with monkeypatch.context() as patch:
        patch.setattr(row_checks.RowChecks, "update", _eio)
        with pytest.raises(DiskError, match="the disk reports an error"):
            FeatureStore(out, header(), dim=DIM).__enter__()
    assert len(segment_files(out)) == 1 and not list(tmp_path.rglob("*.damaged"))
    write(out, [])
    with FeatureFile(out) as file:
        assert file.ids == ("a",)
