"""What stands in deploy/, run by the programs it is written for: the bytes of an undivided run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slurm import a_slurm, can_run

from umedfeat.cli import run

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
ENCODER = ["--encoder", "efficientnet-lite0", "--device", "cpu", "--workers", "1", "--image-size", "32"]
pytestmark = pytest.mark.slow


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five images, a key, the undivided file, and the command on the path."""
    (tmp_path / "in").mkdir()
    for k in range(5):
        pixels = np.random.default_rng(k).integers(0, 255, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"image{k}.png")
    key, whole = tmp_path / "site.key", tmp_path / "whole.h5"
    assert run(["key", "new", str(key)]) == 0
    assert run(["extract", "-i", str(tmp_path / "in"), "-o", str(whole), "--id-key", str(key), *ENCODER]) == 0
    (tmp_path / "bin").mkdir()
    for command in ("umedfeat", "ray"):
        module = {"umedfeat": "umedfeat", "ray": "ray.scripts.scripts"}[command]
        (tmp_path / "bin" / command).write_text(
            f'#!/bin/sh\nPYTHONPATH={DEPLOY.parent} exec {sys.executable} -m {module} "$@"\n'
        )
        (tmp_path / "bin" / command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("PYTHONPATH", raising=False)  # the engines have packages of their own
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(not can_run(), reason="SLURM is not installed, or this is not root")
def test_slurm_gives_the_same_bytes(cohort: Path) -> None:
    """An array on two nodes, and the merge when it has ended."""
    logs = slurm_runs(cohort, ["bash", str(DEPLOY / "slurm" / "submit.sh"), *ENCODER], {"SHARDS": "2"})
    assert (cohort / "feats.h5").exists(), logs
    assert (cohort / "feats.h5").read_bytes() == (cohort / "whole.h5").read_bytes()


@pytest.mark.skipif(not can_run(), reason="SLURM is not installed, or this is not root")
def test_a_ray_cluster_in_a_slurm_job_gives_the_same_bytes(cohort: Path) -> None:
    """Its head on one node; the other joins."""
    pytest.importorskip("ray", reason="needs umedfeat[ray]")
    submit = ["sbatch", "--cpus-per-task=1", str(DEPLOY / "ray" / "ray.sbatch"), *ENCODER]
    logs = slurm_runs(cohort, submit, {"STORE_BYTES": "100000000"})
    assert (cohort / "feats.h5").exists(), logs
    assert (cohort / "feats.h5").read_bytes() == (cohort / "whole.h5").read_bytes()
    assert json.loads((cohort / "feats.h5.run.json").read_text())["engine"] == "ray"


def slurm_runs(cohort: Path, submit: list[str], settings: dict[str, str]) -> str:
    """Submit to two nodes on this machine and wait until the queue is empty; returns what the jobs have said."""
    job = {"INPUT": str(cohort / "in"), "OUT": str(cohort / "feats.h5"), "ID_KEY": str(cohort / "site.key")}
    with a_slurm(cohort / "slurm") as environment:
        subprocess.run(submit, env={**environment, **job, **settings}, check=True, timeout=60)
        while subprocess.run(["squeue", "-h"], env=environment, capture_output=True, check=True).stdout:
            time.sleep(1)
    return "\n".join(path.read_text() for path in cohort.glob("slurm-*.out"))


@pytest.mark.skipif(not shutil.which("snakemake"), reason="snakemake is not installed")
def test_snakemake_gives_the_same_bytes(cohort: Path) -> None:
    config = [f"input={cohort / 'in'}", "out=feats.h5", f"key={cohort / 'site.key'}", "shards=2"]
    recipe = ["snakemake", "-s", str(DEPLOY / "snakemake" / "Snakefile"), "--cores", "2"]
    subprocess.run([*recipe, "--config", *config, f"options={' '.join(ENCODER)}"], check=True, timeout=600)
    assert (cohort / "feats.h5").read_bytes() == (cohort / "whole.h5").read_bytes()


@pytest.mark.skipif(not shutil.which("cwltool"), reason="cwltool is not installed")
def test_cwl_gives_the_same_bytes(cohort: Path) -> None:
    job = {
        "images": {"class": "Directory", "path": str(cohort / "in")},
        "key": {"class": "File", "path": str(cohort / "site.key")},
        "shards": ["1/2", "2/2"],
        "encoder": ENCODER[1],
        "options": ENCODER[2:],
    }
    (cohort / "job.json").write_text(json.dumps(job))
    recipe = ["cwltool", "--preserve-environment", "PATH", str(DEPLOY / "cwl" / "extract.cwl"), "job.json"]
    subprocess.run(recipe, check=True, timeout=600)
    assert (cohort / "feats.h5").read_bytes() == (cohort / "whole.h5").read_bytes()


@pytest.mark.skipif(not shutil.which("miniwdl"), reason="miniwdl is not installed")
def test_wdl_gives_the_same_bytes(cohort: Path) -> None:
    """Without containers: needs miniwdl-backend-bare."""
    images = [f"images={path}" for path in sorted((cohort / "in").iterdir())]
    given = [*images, f"key={cohort / 'site.key'}", "shards=2", f"encoder={ENCODER[1]}"]
    recipe = ["miniwdl", "run", str(DEPLOY / "wdl" / "extract.wdl"), *given, f"options={' '.join(ENCODER[2:])}"]
    bare = {"MINIWDL__SCHEDULER__CONTAINER_BACKEND": "bare"}
    subprocess.run([*recipe, "--dir", "wdl/."], env={**os.environ, **bare}, check=True, timeout=600)
    assert (cohort / "wdl/out/features/feats.h5").read_bytes() == (cohort / "whole.h5").read_bytes()
