"""A DICOMDIR leads to its files, and tells where some of them are missing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from dicom_factory import series
from pydicom.fileset import FileSet

from umedfeat.discovery import discover
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy

KEY = Pseudonyms(b"key")


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    """A medium with two series, written by pydicom; a file beside it is no part of the set."""
    files = FileSet()
    for number, folder in enumerate(("a", "b")):
        tags = {"StudyID": "1", "SeriesNumber": number + 1, "StudyDate": "20260101", "StudyTime": "120000"}
        for path in series(tmp_path / folder, [0.0, 5.0, 10.0], **tags):
            files.add(path)
    files.write(tmp_path / "medium")
    files._stage["t"].cleanup()  # pydicom leaves that to the garbage collector, which warns
    series(tmp_path / "medium" / "other", [0.0, 5.0])
    return tmp_path / "medium" / "DICOMDIR"


def test_an_index_leads_to_its_files_and_to_no_others(medium: Path) -> None:
    found = discover([medium], Policy(), KEY)
    assert len(found.sources) == 2 and not found.failures
    assert sum(len(source.files) for source in found.sources) == 6
    assert [skipped.reason for skipped in found.skipped] == ["DICOMDIR, an index of files"]
    assert len(discover([medium.parent], Policy(), KEY).sources) == 3


def test_letters_of_either_case(medium: Path) -> None:
    for path in sorted(medium.parent.rglob("*"), key=lambda path: -len(path.parts)):
        if path.name not in ("DICOMDIR", "other") and "other" not in path.parts:
            path.rename(path.with_name(path.name.lower()))
    assert len(discover([medium], Policy(), KEY).sources) == 2


def test_missing_files_are_told(medium: Path, caplog: pytest.LogCaptureFixture) -> None:
    next(path for path in discover([medium], Policy(), KEY).sources[0].files).unlink()
    found = discover([medium], Policy(), KEY)
    assert [failure.message for failure in found.failures] == ["DICOMDIR: missing: 1 of the 6 files that it lists"]
    with caplog.at_level(logging.WARNING):
        folder = discover([medium.parent], Policy(), KEY)
    assert not folder.failures and "missing: 1 of the 6 files that it lists" in caplog.text
    assert any("missing: 1 of those that it lists" in skipped.reason for skipped in folder.skipped)
