"""Faults of the machine at every stage of the command, and what a run may not leave behind.

Every case: the command with a fault, then the same command without it. Either may end with any documented exit code,
but not hang, show a traceback, leave a process or a temporary file; the second must end as an undisturbed run and write
the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import killing

STAGES = ("extract", "merge", "export", "preview", "probe")
_HANGS_AFTER = 240.0
_DOCUMENTED = {0, 1, 2, 3, 130}
_TIME = re.compile(rb'"created": .*|"seconds": .*|.* \xc2\xb7 \d{4}-\d\d-\d\dT.*')
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
_SHIM = Path(__file__).with_name("eio.c")


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Attributes:
        before: in the child before it becomes the command. ``during``: in this process while it runs.
        environment: laid over the command's; None removes a variable.
        closed_stdout: nobody reads what it prints.
        mounts: shell commands in a mount namespace of the command's own, run before it.
    """

    name: str
    before: Callable[[], None] | None = None
    during: Callable[[int], None] | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    closed_stdout: bool = False
    mounts: str = ""


def faults(moments: random.Random, longest: float, shim: Path | None, inputs: Path) -> list[Fault]:
    """One of every kind, at random moments and limits.

    Args:
        longest: seconds of an undisturbed run. inputs: the folder that holds all that is read.
    """

    def limited(kind: int, value: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(kind, (value, value))

    def kill(whole_group: bool) -> Callable[[int], None]:
        def strike(pid: int) -> None:
            time.sleep(moments.uniform(0.2, longest))
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if whole_group else os.kill)(pid, signal.SIGKILL)

        return strike

    def pause(pid: int) -> None:
        time.sleep(moments.uniform(0.2, longest))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGSTOP)
            time.sleep(1.0)
            os.killpg(pid, signal.SIGCONT)

    found = [
        Fault("kill -9 of the parent", during=kill(whole_group=False)),
        Fault("kill -9 of the group", during=kill(whole_group=True)),
        Fault("SIGSTOP for a second", during=pause),
        Fault("full disk (RLIMIT_FSIZE)", limited(resource.RLIMIT_FSIZE, moments.choice([4096, 30_000, 100_000]))),
        Fault("memory limit (RLIMIT_AS)", limited(resource.RLIMIT_AS, moments.choice([300, 900, 1500, 2500]) << 20)),
        Fault("few open files (RLIMIT_NOFILE)", limited(resource.RLIMIT_NOFILE, moments.choice([8, 16, 32]))),
        Fault("no HOME", environment={"HOME": None, "XDG_CONFIG_HOME": None}),
        Fault("HOME that cannot be written", environment={"HOME": "/proc/nowhere", "XDG_CONFIG_HOME": None}),
        Fault("closed stdout", closed_stdout=True),
    ]
    if shim is not None:
        found += [
            _failing(shim, "EIO", "read", inputs, moments.choice([1, 2, 5, 20])),
            _failing(shim, "EIO", "write", "/out/", moments.choice([1, 2, 5, 20])),
            _failing(shim, "EIO", "fsync", "/out/", moments.choice([1, 2])),
            _failing(shim, "ENOSPC", "write", "/out/", moments.choice([1, 2, 5, 20])),
        ]
    return found + _mounted()


def _failing(shim: Path, error: str, call: str, path: Path | str, nth: int) -> Fault:
    """EIO: the nth call below a path fails, once. ENOSPC: it and all that follow it, as on a full disk."""
    wanted = {"UMEDFEAT_EIO_CALL": call, "UMEDFEAT_EIO_PATH": str(path), "UMEDFEAT_EIO_NTH": str(nth)}
    name, full = ("full disk (ENOSPC)", "1") if error == "ENOSPC" else (f"EIO on {call}", None)
    return Fault(name, environment={"LD_PRELOAD": str(shim), "UMEDFEAT_EIO_FULL": full, **wanted})


def _mounted() -> list[Fault]:
    """Faults that take a mount of the command's own; none where the system allows no user namespaces."""
    probe = [*_NAMESPACE, "mount -t tmpfs tmpfs /dev/shm"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        return []
    return [
        Fault("/dev/shm of 64 KiB", mounts="mount -t tmpfs -o size=64k tmpfs /dev/shm"),
        Fault(
            "read-only HOME",
            mounts='mount -t tmpfs -o ro tmpfs "$HOME"',
            environment={"HOME": "/mnt", "XDG_CONFIG_HOME": None},
        ),
    ]


def build_shim(folder: Path) -> Path | None:
    """The library that makes a call fail, or None without a C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "eio.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SHIM), "-ldl"], check=True)
    return library


class Ground:
    """Inputs of all stages and what each stage writes when nothing disturbs it."""

    def __init__(self, folder: Path, images: int = 8) -> None:
        self.folder = folder
        self.inputs = killing.write_inputs(folder / "in", images, every_reader=False)
        self.key = folder / "in.key"
        self.key.write_text("a secret of the chaos harness, long enough")
        self.key.chmod(0o600)
        self.seconds: dict[str, float] = {}
        self.expected: dict[str, tuple[int, str]] = {}
        names = sorted(path.stem for path in self.inputs.glob("image*.png"))
        (folder / "labels.csv").write_text("id,label\n" + "".join(f"{n},{'ab'[k % 2]}\n" for k, n in enumerate(names)))
        for half, part in (("first", names[::2]), ("second", names[1::2])):
            self._extract_some(half, part)
        for stage in STAGES:
            place = folder / "undisturbed" / stage / "out"
            place.mkdir(parents=True)
            begin = time.monotonic()
            code, told = self.run(stage, place, Fault("none"))
            assert code in (0, 1), f"{stage}: {told}"
            self.seconds[stage] = time.monotonic() - begin
            self.expected[stage] = code, digest_of(place)
            if stage == "extract":
                shutil.copy(place / "feats.h5", folder / "feats.h5")

    def _extract_some(self, half: str, names: list[str]) -> None:
        source = self.folder / half
        source.mkdir()
        for name in names:
            shutil.copy(self.inputs / f"{name}.png", source)
        arguments = killing.arguments(source, self.folder / f"{half}.h5", "--id-key", str(self.key))
        subprocess.run([sys.executable, "-m", "umedfeat", *arguments], check=True, capture_output=True)

    def arguments(self, stage: str, place: Path) -> list[str]:
        """Of the command."""
        key = ["--id-key", str(self.key)]
        feats = str(self.folder / "feats.h5")
        halves = [str(self.folder / f"{half}.h5") for half in ("first", "second")]
        labels = ["--labels", str(self.folder / "labels.csv"), "--label", "label", "--shots", "1", "--repeats", "2"]
        return {
            "extract": [*killing.arguments(self.inputs, place / "feats.h5"), *key],
            "merge": ["merge", *halves, "--overwrite", "--out", str(place / "merged.h5")],
            "export": ["export", feats, "--layout", "clam", "--out", str(place / "clam")],
            "preview": ["preview", str(self.inputs), "--out", str(place / "look"), "--progress", "none", *key],
            "probe": ["probe", "--features", feats, *labels, "--out", str(place / "probe")],
        }[stage]

    def run(self, stage: str, place: Path, fault: Fault) -> tuple[int | None, str]:
        """(exit code or None for a run that hung, what it told) under one fault; complains of what it leaves."""
        scratch = place.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        environment: dict[str, str | None] = {**os.environ, "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"OMP_NUM_THREADS": "1", **fault.environment}
        environment["UMEDFEAT_EIO_MARK"] = str(place.parent / "fired")
        command = [sys.executable, "-m", "umedfeat", *self.arguments(stage, place)]
        if fault.mounts:
            command = [*_NAMESPACE, f'{fault.mounts} && exec "$@"', "sh", *command]
        told = place.parent / "told.txt"
        with told.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE if fault.closed_stdout else output,
                stderr=output,
                env={name: value for name, value in environment.items() if value is not None},
                preexec_fn=fault.before,
                start_new_session=True,
            )
        if process.stdout is not None:
            process.stdout.close()
        if fault.during is not None:
            fault.during(process.pid)
        code: int | None = None
        try:
            code = process.wait(timeout=_HANGS_AFTER)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        orphans = killing.running_in_group(process.pid, 10.0)
        return code, told.read_text(errors="replace") + "".join(f"ORPHAN {name}\n" for name in orphans)


def digest_of(place: Path) -> str:
    """Of every file of a result, but for what tells when and how long: .run.json, the dates within PDF, two lines."""
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*")):
        if path.is_file() and not path.name.endswith((".run.json", ".pdf")):
            content = path.read_bytes()
            timeless = _TIME.sub(b"", content) if path.name in {"report.html", "summary.json"} else content
            digest.update(f"{path.relative_to(place)}\0".encode() + timeless)
    return digest.hexdigest()


def complaints(ground: Ground, stage: str, fault: Fault, place: Path) -> list[str]:
    """What is wrong with one case; empty where it is as it should be."""
    place.mkdir(parents=True)
    code, told = ground.run(stage, place, fault)
    wrong = _wrong_with(code, told, allowed=_DOCUMENTED | {-signal.SIGKILL})
    again, told_again = ground.run(stage, place, Fault("none"))
    wrong += [f"then: {fault}" for fault in _wrong_with(again, told_again, allowed={ground.expected[stage][0]})]
    if not wrong and digest_of(place) != ground.expected[stage][1]:
        wrong.append(f"then: other files or bytes than undisturbed: {sorted(p.name for p in place.iterdir())}")
    left = killing.left_behind(place.parent / "scratch") if code != -signal.SIGKILL else []
    return wrong + ([f"left behind: {left}"] if left else [])


def _wrong_with(code: int | None, told: str, allowed: set[int]) -> list[str]:
    last = " / ".join(told.strip().splitlines()[-3:])[-400:]
    wrong = ["it hung"] if code is None else [] if code in allowed else [f"exit {code}: {last}"]
    wrong += [f"a traceback: {last}"] if "Traceback (most recent call last)" in told else []
    return wrong + [line for line in told.splitlines() if line.startswith("ORPHAN")]
