"""One writer per output: a lock file with host, process and heartbeat; a dead one's lock is taken over."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType

from umedfeat.errors import OutputError

__all__ = ["OutputLock"]

_CLAIM_SECONDS = 0.02
_BEAT_SECONDS = 10.0
_DEAD_AFTER_SECONDS = 120.0


class OutputLock:
    """Holds ``<out>.lock`` while a run writes.

    On the same machine a holder is dead when its process is gone; on another one when it has not touched the lock for
    two minutes by the clock of the file system.

    Args:
        out: the feature file.

    Raises (on enter):
        OutputError: another living process writes to the same output, or the folder cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(out.name + ".lock")
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._keep_beating, daemon=True, name="lock heartbeat")

    def __enter__(self) -> OutputLock:
        while not self._try_create():
            holder = _read(self.path)
            if _is_alive(holder, self.path):
                raise OutputError(
                    f"{self.path.name}: process {holder.get('pid')} on {holder.get('host')} is writing this output",
                    remedy="wait for it, choose another --out, or use --shard i/n for several machines",
                )
            self._take_away(holder)
        self._remove_leftovers()
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._beat.join()
        if self._is_ours():
            self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Called before the output is replaced.

        Raises:
            OutputError: somebody took the lock away, because this process was silent for long (a suspended machine).
        """
        if not self._is_ours():
            raise OutputError(
                f"{self.path.name}: another process took over this output", remedy="let it finish; nothing is lost"
            )

    def _is_ours(self) -> bool:
        return _read(self.path).get("token") == self._token

    def _try_create(self) -> bool:
        """Make the lock whole or not at all: written aside, then linked under its name."""
        aside = self.path.with_name(f".{self.path.name}.{self._token}")
        pid = os.getpid()
        holder = {"host": socket.gethostname(), "pid": pid, "began": _began(pid), "token": self._token}
        try:
            aside.write_text(json.dumps(holder))
            return _link(aside, self.path)
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror})", remedy="choose another --out"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)

    def _take_away(self, dead: dict[str, object]) -> None:
        """Remove a dead one's lock. One process at a time may do that, so a living lock is never removed instead."""
        claim = self.path.with_name(f".{self.path.name}.claim")
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            if _silence(claim) > _BEAT_SECONDS:  # whoever removed it died on the way
                claim.unlink(missing_ok=True)
            time.sleep(_CLAIM_SECONDS)
            return
        try:
            if _read(self.path).get("token") == dead.get("token"):
                self.path.unlink(missing_ok=True)
        finally:
            claim.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Files beside the lock whose makers were killed; those of a living one are a moment old."""
        for path in self.path.parent.glob(f".{glob.escape(self.path.name)}.*"):
            with contextlib.suppress(OSError):
                if self.path.stat().st_mtime - path.stat().st_mtime > _BEAT_SECONDS:
                    path.unlink()

    def _keep_beating(self) -> None:
        while not self._stop.wait(_BEAT_SECONDS):
            if self._is_ours():
                with contextlib.suppress(OSError):  # a file system that stalls; the run itself is not in danger
                    os.utime(self.path)


def _link(source: Path, target: Path) -> bool:
    """Give ``source`` the name ``target`` unless that exists."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: nearly as good
        try:
            with target.open("x") as stream:
                stream.write(source.read_text())
        except FileExistsError:
            return False
    return True


def _read(path: Path) -> dict[str, object]:
    try:
        holder: dict[str, object] = json.loads(path.read_text())
    except (OSError, ValueError):  # just gone, or being written
        return {}
    return holder


def _is_alive(holder: dict[str, object], path: Path) -> bool:
    if holder.get("host") == socket.gethostname():
        pid = int(str(holder["pid"]))
        return _runs(pid) and holder.get("began") == _began(pid)
    return _silence(path) < (_DEAD_AFTER_SECONDS if holder else _BEAT_SECONDS)


def _silence(path: Path) -> float:
    """Seconds since the lock was touched, by the clock of its file system: clocks of machines differ."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return float("inf")
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _began(pid: int) -> str:
    """When a process began, in ticks since boot, so that a number used again is not taken for the old process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
