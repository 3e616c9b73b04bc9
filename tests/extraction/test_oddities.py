"""A window option that decided no input is told, by the command too."""

from __future__ import annotations

from pathlib import Path

import dicom_factory
import pytest

from umedfeat.cli import run
from umedfeat.extraction.oddities import unused_windows, window_setting
from umedfeat.policy import IntensityPolicy


def test_a_window_that_decided_nothing_is_told() -> None:
    asked = IntensityPolicy(ct_window="lung", suv="0,20")
    assert [line.partition(" changed")[0] for line in unused_windows(asked, {""})] == ["--window lung", "--suv 0,20"]
    assert unused_windows(asked, {"ct_window", "suv"}) == unused_windows(IntensityPolicy(), set()) == []


def test_the_setting_of_a_plan() -> None:
    assert window_setting({"intensity": {"setting": "suv"}}) == "suv"
    assert window_setting({"intensity": "full range"}) == window_setting({}) == ""


def test_the_command_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dicom_factory.series(tmp_path / "mr", [0.0, 5.0], "MR")
    (tmp_path / "key").write_text("a fixed key of the test suite")
    (tmp_path / "key").chmod(0o600)
    files = ["-i", str(tmp_path / "mr"), "-o", str(tmp_path / "o.h5"), "--id-key", str(tmp_path / "key")]
    assert run(["extract", *files, "-e", "efficientnet-lite0", "--device", "cpu", "--window", "lung"]) == 0
    assert "--window lung changed nothing: no input is CT in Hounsfield units" in capsys.readouterr().err
