"""Cores that a laptop, a container and a test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from umedfeat import machine
from umedfeat.engine.local.here import batch_size_for
from umedfeat.machine import usable_cores, usable_memory
from umedfeat.policy import ImagePolicy, Policy, SlidePolicy


def on(monkeypatch: pytest.MonkeyPatch, cores: int, cgroup: Path, asked: str = "") -> int:
    monkeypatch.setattr(machine, "_affinity", lambda: cores)
    monkeypatch.setattr(machine, "_CGROUP", cgroup)
    monkeypatch.setattr(machine, "_OWN_GROUPS", cgroup / "own")
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


def test_quota_of_a_job_on_a_cluster_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler's limits stand in the job's own group or in one above it, not at the root."""
    (tmp_path / "system" / "job_7" / "step").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/system/job_7/step\n")
    (tmp_path / "system" / "job_7" / "cpu.max").write_text("400000 100000")
    (tmp_path / "system" / "job_7" / "memory.max").write_text(str(1 << 30))
    assert on(monkeypatch, 64, tmp_path) == 4
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "none")
    assert usable_memory() == 1 << 30
    (tmp_path / "system" / "job_7" / "step" / "cpu.max").write_text("200000 100000")
    assert on(monkeypatch, 64, tmp_path) == 2


def test_quota_of_a_job_on_an_older_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu" / "slurm" / "job_7").mkdir(parents=True)
    (tmp_path / "own").write_text("3:cpuacct,cpu:/slurm/job_7\n2:memory:/other\n")
    (tmp_path / "cpu" / "slurm" / "cpu.cfs_quota_us").write_text("300000")
    (tmp_path / "cpu" / "slurm" / "cpu.cfs_period_us").write_text("100000")
    assert on(monkeypatch, 64, tmp_path) == 3


def test_affinity_and_wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert on(monkeypatch, 2, tmp_path) == 2
    assert on(monkeypatch, 64, tmp_path, asked="4") == 4
    assert on(monkeypatch, 2, tmp_path, asked="4") == 2
    assert on(monkeypatch, 2, tmp_path, asked="many") == 2


@pytest.mark.parametrize(
    ("limit", "memory"), [("max", 8 << 30), ("2147483648", 2 << 30), (str(1 << 60), 8 << 30), ("", 8 << 30)]
)
def test_memory_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, memory: int) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal:  99999999 kB\nMemAvailable:  {8 << 20} kB\n")
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "none")
    assert usable_memory() == memory
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "none")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path / "none")
    assert usable_memory() is None


def test_pixels_under_way_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large tiles on a node with many readers: the batch shrinks, not the machine."""
    small = Policy(slide=SlidePolicy(tile_size=224), image=ImagePolicy(size=224))
    large = Policy(slide=SlidePolicy(tile_size=1024), image=ImagePolicy(size=224))
    monkeypatch.setattr("umedfeat.engine.local.here.usable_memory", lambda: 64 << 30)
    assert batch_size_for(256, small, workers=8, encoding=2) == 256
    assert batch_size_for(256, large, workers=8, encoding=2) == 64
    monkeypatch.setattr("umedfeat.engine.local.here.usable_memory", lambda: 1 << 20)
    assert batch_size_for(32, small, workers=2, encoding=2) == 1
    monkeypatch.setattr("umedfeat.engine.local.here.usable_memory", lambda: None)
    assert batch_size_for(32, small, workers=2, encoding=2) == 32


@pytest.mark.parametrize(
    ("nodes", "may"), [((), False), (("null", "nvme0"), False), (("nvidia0",), True), (("kfd",), True)]
)
def test_a_gpu_leaves_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: tuple[str, ...], may: bool
) -> None:
    monkeypatch.setattr(machine, "_DEVICES", tmp_path)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    for node in nodes:
        (tmp_path / node).touch()
    assert machine.may_have_gpu() is may


@pytest.mark.parametrize(
    ("text", "name", "native"),
    [
        ("model name\t: EPYC 9004\nflags\t\t: fma avx512f avx512_bf16\n", "EPYC 9004", True),
        ("model name\t: Xeon 4\nflags\t\t: avx512f amx_bf16 amx_tile\n", "Xeon 4", True),
        ("model name\t: EPYC 7003\nflags\t\t: fma avx2\nmodel name\t: second\n", "EPYC 7003", False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", "", True),
        (None, "", False),
    ],
)
def test_what_a_processor_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, name: str, native: bool
) -> None:
    monkeypatch.setattr(machine, "_PROCESSOR", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert machine.processor()[0] == name
    assert machine.has_bfloat16() is native
