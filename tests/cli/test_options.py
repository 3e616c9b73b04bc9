"""Wrong values of options end at once, with what is legal."""

from __future__ import annotations

from pathlib import Path

import pytest

from umedfeat.cli import run


@pytest.mark.parametrize("command", ["extract", "preview"])
@pytest.mark.parametrize(
    ("option", "value", "legal"),
    [
        ("--window", "lungs", "soft-tissue"),
        ("--window", "5,1", "-160,240"),
        ("--window", "nan,1", "-160,240"),
        ("--grey-window", "lung", "percentile"),
        ("--slices", "0", "every-K"),
        ("--slices", "-3", "every-K"),
        ("--frames", "every-0", "every-K"),
        ("--frames", "²", "every-K"),
        ("--plane", "top", "sagittal"),
        ("--volume-index", "first", "mean"),
        ("--fit", "stretch", "squash"),
    ],
)
def test_the_legal_values_are_listed(
    command: str, option: str, value: str, legal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "--input", str(tmp_path), "--out", str(tmp_path / "out"), option, value]) == 2
    told = capsys.readouterr().err
    assert option in told and legal in told and "Traceback" not in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [["probe"], ["similar", "an-item"]])
def test_a_second_feature_file_is_not_dropped_in_silence(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "-f", "a.h5", "--in", "b.h5"]) == 2
    told = capsys.readouterr().err
    assert "--features takes one file and is given 2" in told and "umedfeat merge" in told
