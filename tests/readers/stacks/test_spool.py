"""Scratch space: a disk that is full is told as such, and never as a damaged file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from nifti_factory import write

from umedfeat.contract import Found
from umedfeat.errors import TooLarge
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, Policy, VolumePolicy
from umedfeat.readers.stacks import spool
from umedfeat.readers.volumes import reader as nifti


def planned(path: Path, **volume: Any) -> Any:
    policy = Policy(volume=VolumePolicy(**volume), image=ImagePolicy(size=16))
    reader = nifti.open_source(
        nifti.collect([Found(path, path.name, {})], policy, Pseudonyms(b"key")).sources[0], policy
    )
    try:
        return reader.read(reader.plan().regions)
    finally:
        reader.close()


@pytest.fixture(params=["decompressed", "resliced"])
def needy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A volume that needs scratch space on disk, and the plane in which it does."""
    monkeypatch.setattr(spool, "_IN_MEMORY", 0)
    if request.param == "decompressed":
        return write(tmp_path / "a.nii.gz"), "acquired"
    return write(tmp_path / "a.nii"), "coronal"


def test_too_little_space_is_told_before_anything_is_written(
    needy: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))  # type: ignore[attr-defined]
    path, plane = needy
    with pytest.raises(TooLarge, match=r"a\.nii.*GiB of scratch space needed, 0\.0 GiB are free") as caught:
        planned(path, plane=plane)
    assert "TMPDIR" in caught.value.remedy


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_is_no_damaged_file(needy: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("w+b", buffering=0)  # noqa: SIM115 - the reader closes it
    monkeypatch.setattr(spool.tempfile, "TemporaryFile", lambda: full)
    path, plane = needy
    with pytest.raises(TooLarge, match=r"a\.nii.*scratch space ran out: No space left") as caught:
        planned(path, plane=plane)
    assert "TMPDIR" in caught.value.remedy
    assert full.closed


def test_damage_is_still_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(raw)
    with pytest.raises(Exception, match="damaged gzip stream"):
        planned(path)
