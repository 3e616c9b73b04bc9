"""Cores that a laptop, a container and a test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from umedfeat import machine
from umedfeat.machine import usable_cores


def on(monkeypatch: pytest.MonkeyPatch, cores: int, cgroup: Path, asked: str = "") -> int:
    monkeypatch.setattr(machine, "_affinity", lambda: cores)
    monkeypatch.setattr(machine, "_CGROUP", cgroup)
    monkeypatch.setenv("UMEDFEAT_CORES", asked)
    return usable_cores()


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 16), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("", 16)]
)
def test_quota_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert on(monkeypatch, 16, tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("300000", 3)])
def test_quota_of_an_older_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert on(monkeypatch, 8, tmp_path) == cores


def test_affinity_and_wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert on(monkeypatch, 2, tmp_path) == 2
    assert on(monkeypatch, 64, tmp_path, asked="4") == 4
    assert on(monkeypatch, 2, tmp_path, asked="4") == 2
    assert on(monkeypatch, 2, tmp_path, asked="many") == 2
