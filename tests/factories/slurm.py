"""SLURM on this machine: a controller and two nodes, as root, gone when the block ends."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["a_slurm", "can_run"]

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
_CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
GresTypes=gpu
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile={folder}/control.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldLogFile={folder}/control.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=8 RealMemory=4000 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=8 RealMemory=4000 Gres=gpu:1
PartitionName=main Nodes=ALL Default=YES State=UP
"""


def can_run() -> bool:
    """Is it installed, and may we start it?"""
    return all(map(shutil.which, _PROGRAMS)) and hasattr(os, "geteuid") and os.geteuid() == 0


@contextlib.contextmanager
def a_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Two idle nodes; yields what must stand in the environment of ``sbatch``. Their GPUs are stand-ins."""
    (folder / "state").mkdir(parents=True)
    host, (port, port1, port2) = socket.gethostname(), _free_ports(3)
    config = _CONFIG.format(folder=folder, host=host, port=port, port1=port1, port2=port2)
    (folder / "slurm.conf").write_text(config)
    (folder / "gres.conf").write_text("NodeName=n1 Name=gpu File=/dev/null\nNodeName=n2 Name=gpu File=/dev/zero\n")
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "SBATCH_MEM_PER_NODE": "1G"}
    places = {"key-file": key, "socket": "munge.sock", "pid-file": "munge.pid", "log-file": "munge.log"}
    munge = ["munged", "--force", *(f"--{name}={folder / place}" for name, place in places.items())]
    nodes = [["slurmd", "-N", name] for name in ("n1", "n2")]
    try:
        for command in ([*munge, f"--seed-file={folder / 'seed'}"], ["slurmctld"], *nodes):
            subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
            time.sleep(0.5)
        _until("idle", environment)
        yield environment
    finally:
        for pid in ("n1.pid", "n2.pid", "control.pid", "munge.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((folder / pid).read_text()), 15)


def _until(state: str, environment: dict[str, str]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        told = subprocess.run(["sinfo", "-h", "-o", "%t %D"], env=environment, capture_output=True, text=True).stdout
        if told.split() == [state, "2"]:
            return
        time.sleep(0.5)
    raise RuntimeError(f"the nodes are not {state}: {told}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
