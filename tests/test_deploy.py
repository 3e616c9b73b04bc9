"""What stands in deploy/: options that exist, jobs that survive preemption, the same bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
import yaml
from PIL import Image
from slurm import a_slurm, can_run

from umedfeat.cli import root, run

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
#: Options of other programs that stand in the same files.
OF_OTHERS = {
    *(
        "--array",
        "--parsable",
        "--dependency",
        "--job-name",
        "--cpus-per-task",
        "--mem",
        "--gres",
        "--time",
        "--requeue",
    ),
    *("--open-mode", "--signal", "--cores", "--config", "--executor", "--from-file", "--key", "--shards"),
    *("--build-arg", "--mount", "--from", "--index-url", "--no-cache-dir", "--uid", "--create-home", "--nv", "--bind"),
    *("--help", "--rm", "--user", "--gpus", "--shm-size"),
    *("--nodes", "--ntasks", "--ntasks-per-node", "--nodelist", "--exclude", "--overlap", "--head", "--port"),
    *("--num-cpus", "--include-dashboard", "--address", "--block", "--object-store-memory"),
}
ENCODER = ["--encoder", "efficientnet-lite0", "--device", "cpu", "--workers", "1", "--image-size", "32"]


def known_options() -> set[str]:
    context = click.Context(root)
    commands = [root.get_command(context, name) for name in ("extract", "merge", "verify", "doctor", "info")]
    return {option for command in commands if command for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("path", sorted(p for p in DEPLOY.rglob("*") if p.is_file()), ids=lambda path: path.name)
def test_every_option_exists(path: Path) -> None:
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", path.read_text(encoding="utf-8")))
    assert used <= known_options() | OF_OTHERS


@pytest.mark.parametrize("path", [*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.cwl")], ids=lambda path: path.name)
def test_what_is_yaml_parses(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


# ---- SLURM

#: Stands in for the command: says that it runs, and ends as umedfeat does when it is asked to.
STUB = """#!/bin/bash
echo "$@" > arguments
trap 'echo safe > segment; exit 130' TERM
touch running
for _ in $(seq 600); do [ -e finish ] && exit "$(cat finish)"; sleep 0.05; done
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The array's script as SLURM would start it, with stand-ins for umedfeat and scontrol on the path."""
    (folder / "bin").mkdir()
    for name, text in (("umedfeat", STUB), ("scontrol", '#!/bin/bash\necho "$@" > requeued\n')):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    job = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2"}
    given = {"INPUT": "in", "OUT": "feats.h5", "ID_KEY": "site.key", "SHARDS": "16"}
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    script = ["bash", str(DEPLOY / "slurm" / "array.sbatch"), "--encoder", "umedpt"]
    process = subprocess.Popen(script, cwd=folder, env=os.environ | job | given | {"PATH": path})
    while not (folder / "running").exists():
        assert process.poll() is None
        time.sleep(0.02)
    return process


@pytest.mark.skipif(os.name != "posix" or not shutil.which("bash"), reason="a script of bash")
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_that_must_go_makes_its_work_safe(tmp_path: Path, number: signal.Signals) -> None:
    """Out of time (USR1) it asks to be queued again; preempted (TERM) SLURM does so itself."""
    with start(tmp_path) as process:
        process.send_signal(number)
        assert process.wait(60) == 130
    assert (tmp_path / "segment").exists()
    assert (tmp_path / "requeued").exists() == (number == signal.SIGUSR1)
    if number == signal.SIGUSR1:
        assert (tmp_path / "requeued").read_text().split() == ["requeue", "7_3"]


@pytest.mark.skipif(os.name != "posix" or not shutil.which("bash"), reason="a script of bash")
@pytest.mark.parametrize("code", [0, 1])
def test_a_job_ends_as_its_shard_did(tmp_path: Path, code: int) -> None:
    with start(tmp_path) as process:
        (tmp_path / "finish.new").write_text(str(code))
        (tmp_path / "finish.new").rename(tmp_path / "finish")
        assert process.wait(60) == code
    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments[arguments.index("--shard") + 1] == "3/16"
    assert arguments[-2:] == ["--encoder", "umedpt"]
    assert not (tmp_path / "requeued").exists()


# ---- workflows


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


@pytest.mark.slow
@pytest.mark.skipif(not can_run(), reason="SLURM is not installed, or this is not root")
def test_slurm_gives_the_same_bytes(cohort: Path) -> None:
    """An array on two nodes, and the merge when it has ended."""
    logs = slurm_runs(cohort, ["bash", str(DEPLOY / "slurm" / "submit.sh"), *ENCODER], {"SHARDS": "2"})
    assert (cohort / "feats.h5").exists(), logs
    assert (cohort / "feats.h5").read_bytes() == (cohort / "whole.h5").read_bytes()


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("snakemake"), reason="snakemake is not installed")
def test_snakemake_gives_the_same_bytes(cohort: Path) -> None:
    config = [f"input={cohort / 'in'}", "out=feats.h5", f"key={cohort / 'site.key'}", "shards=2"]
    recipe = ["snakemake", "-s", str(DEPLOY / "snakemake" / "Snakefile"), "--cores", "2"]
    subprocess.run([*recipe, "--config", *config, f"options={' '.join(ENCODER)}"], check=True, timeout=600)
    assert (cohort / "feats.h5").read_bytes() == (cohort / "whole.h5").read_bytes()


@pytest.mark.slow
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
