"""Resuming: nothing finished is lost, nothing is mixed, faults are told in one line."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import crash_writer
import h5py
import numpy as np
import pytest
from crash_writer import items as crash_items
from store_cases import DIM, header, item, write

from umedfeat.contract import Failure
from umedfeat.disk import lock
from umedfeat.errors import Interrupted, OutputError
from umedfeat.store import FeatureFile, FeatureStore, Header, segment, verify
from umedfeat.store.segment import segment_files

A, B, C = item("a", 3, label="x"), item("b", 2), item("c", 1)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "feats.h5"


def _interrupted(out: Path, *items_: object) -> None:
    with pytest.raises(KeyboardInterrupt), FeatureStore(out, header(), dim=DIM) as store:
        for each in items_:
            store.add(each)  # type: ignore[arg-type]
        raise KeyboardInterrupt


def test_interrupted_run_keeps_what_was_finished(out: Path) -> None:
    _interrupted(out, A, B)
    assert not out.exists()
    with FeatureStore(out, header(), dim=DIM) as store:
        assert store.done == {"a", "b"}
        store.add(C)
        store.finish({"workers": 3})
    assert verify(out).faults == ()
    assert sorted(path.name for path in out.parent.iterdir()) == ["feats.h5", "feats.h5.run.json"]
    assert json.loads((out.parent / "feats.h5.run.json").read_text())["workers"] == 3


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused_with_the_difference(out: Path, finished: bool) -> None:
    if finished:
        write(out, [A])
    else:
        _interrupted(out, A)
    before = header()
    policy = json.loads(json.dumps(before.policy))
    policy["slide"]["mpp"] = 1.0
    with pytest.raises(OutputError, match=r"policy\.slide\.mpp: 0\.5 → 1\.0") as caught:
        FeatureStore(out, replace(before, policy=policy), dim=DIM).__enter__()
    assert "--overwrite" in caught.value.remedy
    with pytest.raises(OutputError, match="dtype: float32 → float16"):
        FeatureStore(out, replace(before, dtype="float16"), dim=DIM).__enter__()
    assert not (out.parent / "feats.h5.lock").exists()
    with FeatureStore(out, replace(before, policy=policy), dim=DIM, overwrite=True) as store:
        assert store.done == frozenset()


def test_failures_are_tried_again_and_go_when_they_succeed(out: Path) -> None:
    write(out, [A], failures=["b.svs", "c.svs"])
    assert "b.svs,read,UnreadableInput" in (out.parent / "feats.h5.failures.csv").read_text()
    with FeatureStore(out, header(), dim=DIM) as store:
        assert store.done == {"a"}
        store.add(B)
        store.fail(Failure("c.svs", "read", "UnreadableInput", "c.svs: worse"))
        store.finish({})
    with FeatureFile(out) as file:
        assert (file.failures["source"].tolist(), file.failures["message"].tolist()) == (["c.svs"], ["c.svs: worse"])
    write(out, [C])
    assert not (out.parent / "feats.h5.failures.csv").exists()


def test_changed_input_replaces_what_it_was(out: Path) -> None:
    write(out, [A, B])
    again = item("a", 5, seed=1)
    write(out, [again])
    with FeatureFile(out) as file:
        assert file.ids == ("a", "b")
        np.testing.assert_array_equal(file.features("a"), again.features)
    assert verify(out).faults == ()


def test_corrected_label_needs_no_embedding(out: Path) -> None:
    write(out, [A, B])
    with FeatureStore(out, header(), dim=DIM) as store:
        store.describe(replace(A.source, patient="p-new", meta={"label": "y", "grade": "2"}))
        store.describe(C.source)
        store.finish({})
    with FeatureFile(out) as file:
        assert file.labels("label").tolist() == ["y", ""]
        assert file.labels("grade").tolist() == ["2", ""]
        assert file.items["patient"].tolist() == ["p-new", "p-b"]
    corrected = replace(A, source=replace(A.source, patient="p-new", meta={"label": "y", "grade": "2"}))
    assert out.read_bytes() == write(out.parent / "direct.h5", [corrected, B]).read_bytes()
    with FeatureStore(out, header(), dim=DIM) as store:
        store.describe(replace(A.source, patient="", meta={}))  # a run without the manifest
        store.finish({})
    assert out.read_bytes() == (out.parent / "direct.h5").read_bytes()


def test_damaged_segment_is_set_aside(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    _interrupted(out, A)
    _interrupted(out, B)
    first, second = segment_files(out)
    with h5py.File(first, "r+") as file:
        file["features"][0, 0] += 1
    second.write_bytes(second.read_bytes()[:-100])
    (second.parent / f".{first.name}.123.tmp").write_bytes(b"left by a killed process")
    with FeatureStore(out, header(), dim=DIM) as store:
        assert store.done == frozenset()
        assert first.name in caplog.text
        assert second.name in caplog.text
        for each in (A, B):
            store.add(each)
        store.finish({})
    assert verify(out).faults == ()
    assert not first.parent.exists()


@pytest.mark.parametrize("content", [b"", b"PNG", b"\x89HDF\r\n\x1a\n broken"])
def test_output_that_is_no_feature_file(out: Path, content: bytes) -> None:
    out.write_bytes(content)
    with pytest.raises(OutputError, match="not a feature file") as caught:
        FeatureStore(out, header(), dim=DIM).__enter__()
    assert "--overwrite" in caught.value.remedy


def test_overwrite_never_takes_what_is_not_ours(out: Path) -> None:
    with h5py.File(out, "w") as file:
        file["features"] = np.zeros((3, 4))
    before = out.read_bytes()
    with pytest.raises(OutputError, match="not written by umedfeat"):
        FeatureStore(out, header(), dim=DIM, overwrite=True).__enter__()
    assert out.read_bytes() == before


def test_features_that_cannot_be_stored(out: Path) -> None:
    with FeatureStore(out, header(), dim=DIM) as store:
        with pytest.raises(OutputError, match=r"a\.svs: features with NaN"):
            store.add(replace(A, features=A.features * np.nan))
        with pytest.raises(OutputError, match=r"do not fit 3 rows × 4 values"):
            store.add(replace(A, features=A.features[:2]))
        store.add(B)
        store.finish({})
    assert verify(out).faults == ()
    half = Header(header().encoder, header().policy, "float16")
    with FeatureStore(out.parent / "half.h5", half, dim=DIM) as store, pytest.raises(OutputError, match="float16"):
        store.add(replace(A, features=A.features * 0 + 1e5))


def _appeared(out: Path, count: int, seconds: float = 10) -> bool:
    """Do so many segments lie there before long? A thread writes them."""
    deadline = time.monotonic() + seconds
    while len(segment_files(out)) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(segment_files(out)) == count


def test_a_segment_that_cannot_be_written_is_told_and_kept(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the clock closed it: the next item tells; nothing is lost once there is space."""
    writer = segment.SegmentWriter(segment.partial_folder(out), header(), DIM, seconds=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", _refuse_space)
        writer.add(A)
        with pytest.raises(OutputError, match="the disk is full"):
            for _ in range(1000):
                time.sleep(0.01)
                writer.add(B)
    writer.add(C)
    writer.flush()
    writer.close()
    with FeatureStore(out, header(), dim=DIM) as store:
        assert {"a", "c"} <= store.done


def test_items_wait_no_longer_than_the_clock(out: Path) -> None:
    writer = segment.SegmentWriter(segment.partial_folder(out), header(), DIM, seconds=0.05)
    writer.add(A)
    assert _appeared(out, 1)
    writer.add(B)
    writer.flush()
    assert len(segment_files(out)) == 2


def test_large_items_close_a_segment(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_SEGMENT_BYTES", 100)
    monkeypatch.setattr(segment, "_ITEM_BYTES", 0)
    with FeatureStore(out, header(), dim=DIM) as store:
        store.add(A)
        assert _appeared(out, 1)
        store.add(C)
        assert not _appeared(out, 2, seconds=0.1)


def test_many_small_items_close_a_segment_too(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Radiographs have one row each: what they weigh in memory is their texts."""
    monkeypatch.setattr(segment, "_SEGMENT_BYTES", 10 * segment._ITEM_BYTES)
    with FeatureStore(out, header(), dim=DIM) as store:
        for k in range(10):
            store.add(item(f"s{k}", 1))
        assert _appeared(out, 1)


def test_a_finished_file_is_not_written_again(out: Path) -> None:
    """Nothing new: the file stays; one segment that is the result already is moved. The bytes are those of a copy."""
    _interrupted(out, A, B)
    whole = segment_files(out)[0].read_bytes()
    assert write(out, []).read_bytes() == whole
    before = out.stat()
    assert write(out, []).stat().st_ino == before.st_ino
    assert write(out, [], failures=["c.svs"]).stat().st_ino != before.st_ino
    assert write(out.parent / "direct.h5", [B, A]).read_bytes() == whole


def test_packing_that_is_stopped_loses_nothing(out: Path) -> None:
    write(out, [A])
    before = out.read_bytes()
    _interrupted(out, B)

    def stop(rows: int) -> None:
        raise Interrupted("stopped")

    with pytest.raises(Interrupted), FeatureStore(out, header(), dim=DIM) as store:
        store.finish({}, stop)
    assert out.read_bytes() == before
    assert not list(out.parent.rglob("*.tmp"))
    assert verify(write(out, [C])).items == 3


def test_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lock, "open_plain", refuse)  # root may write anywhere
    with pytest.raises(OutputError, match="Permission denied"):
        FeatureStore(tmp_path / "feats.h5", header(), dim=DIM).__enter__()


def _refuse_space(*_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_disk_that_is_too_small(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before copying; the segments stay, and the run resumes when there is space."""
    _interrupted(out, A)
    _interrupted(out, B)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", _refuse_space)
        with pytest.raises(OutputError, match="the disk is full: 0 MB needed"):
            write(out, [])
        assert not list(out.parent.rglob("*.tmp"))
    assert verify(write(out, [])).items == 2


def test_disk_that_cannot_reserve(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    expected = write(out, [A, B]).read_bytes()
    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    assert write(out.parent / "again.h5", [A, B]).read_bytes() == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    """A file system of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs the right to mount a file system")
def test_full_disk(small_disk: Path) -> None:
    """A disk that fills up while a segment is written: one line, the earlier segments whole, nothing half."""
    out = small_disk / "feats.h5"
    big = [item(f"s{k}", 200, dim=512) for k in range(12)]
    with pytest.raises(OutputError, match="the disk is full"), FeatureStore(out, header(), dim=512) as store:
        for each in big:
            store.add(each)
            store.flush()
    whole = segment_files(out)
    assert whole
    assert all(verify(path).faults == () for path in whole)
    assert not list(out.parent.rglob("*.tmp"))


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """SIGKILL at random moments, resumed each time: the file of an undisturbed run, to the byte."""
    expected = write(tmp_path / "undisturbed.h5", crash_items(), failures=(), dim=64, settings=header())
    with FeatureStore(expected, header(), dim=64) as store:
        store.fail(Failure("bad.svs", "read", "UnreadableInput", "bad.svs: truncated"))
        store.finish({})
    script = Path(crash_writer.__file__)
    moments = random.Random(7)
    out = tmp_path / "feats.h5"
    kills = 0
    for _ in range(30):
        process = subprocess.Popen([sys.executable, str(script), str(out), "0.01"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL) if kills < 6 else process.wait()
        process.wait()
        process.stdout.close()
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
    assert kills >= 3
    assert out.read_bytes() == expected.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith((".", "feats"))) == [
        "feats.h5",
        "feats.h5.failures.csv",
        "feats.h5.run.json",
    ]


def test_two_processes_on_one_output(tmp_path: Path) -> None:
    script = Path(crash_writer.__file__)
    out = tmp_path / "feats.h5"
    process = subprocess.Popen([sys.executable, str(script), str(out), "0.02"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(OutputError, match=f"process {process.pid} on .* is writing this output"):
            FeatureStore(out, header(), dim=64).__enter__()
    finally:
        process.communicate()
    assert process.returncode == 0
    assert verify(out).faults == ()
