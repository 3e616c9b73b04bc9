"""What stands in deploy/: options that exist, jobs that survive preemption, files that linters pass."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import click
import pytest
import yaml

from umedfeat.cli import root

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
    *("--num-cpus", "--include-dashboard", "--address", "--block", "--object-store-memory", "--strict"),
}


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


@pytest.mark.parametrize("name", ["Dockerfile", "umedfeat.def"])
def test_images_are_made_of_all_that_a_wheel_needs(name: str) -> None:
    """A build hook was left out once, and no image could be built."""
    tomllib = pytest.importorskip("tomllib", reason="comes with Python 3.11")
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))
    targets = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", project["project"]["readme"], targets["hooks"]["custom"]["path"], *targets["packages"]}
    text = (DEPLOY / "container" / name).read_text(encoding="utf-8")
    lines = [line.split() for line in text.splitlines() if line.startswith(("COPY ", "    ")) and "--from" not in line]
    assert needed <= {word for line in lines for word in line}


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


# ---- what others say of these files, where their programs are installed


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("path", [*DEPLOY.rglob("*.sh"), *DEPLOY.rglob("*.sbatch")], ids=lambda path: path.name)
def test_shellcheck(path: Path) -> None:
    subprocess.run(["shellcheck", str(path)], check=True, timeout=60)


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_hadolint() -> None:
    subprocess.run(["hadolint", str(DEPLOY / "container" / "Dockerfile")], check=True, timeout=60)


@pytest.mark.skipif(not shutil.which("miniwdl"), reason="miniwdl is not installed")
def test_miniwdl_checks() -> None:
    subprocess.run(["miniwdl", "check", "--strict", str(DEPLOY / "wdl" / "extract.wdl")], check=True, timeout=60)


def test_the_job_is_one_that_kubernetes_knows() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    job = yaml.safe_load((DEPLOY / "kubernetes" / "indexed-job.yaml").read_text(encoding="utf-8"))
    validate.validate(job, "1.29", strict=True)
