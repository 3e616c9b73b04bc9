"""One writer per file: a lock file with host, process and heartbeat; a dead one's lock is taken over."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from umedfeat.disk.plain import open_plain, read_plain
from umedfeat.errors import OutputError

__all__ = ["OutputLock"]

_CLAIM_SECONDS = 0.02
_WAIT_SECONDS = 0.2
_BEAT_SECONDS = 10.0
_DEAD_AFTER_SECONDS = 120.0


class _Holder(NamedTuple):
    """What a lock file tells; what is not understood is left at nothing, and the lock ages like an empty one."""

    host: str = ""
    pid: int = 0
    began: str = ""
    token: str = ""


class OutputLock:
    """Holds ``<out>.lock`` while a process writes ``out``.

    On the same machine a holder is dead when its process is gone; on another one when it has not touched the lock for
    two minutes by the clock of the file system.

    Args:
        out: the file that is written.
        wait: wait for another writer instead of refusing.

    Raises (on enter):
        OutputError: another living process writes to the same output, the lock is a link or a folder, or the folder
            cannot be written.
    """

    def __init__(self, out: Path, *, wait: bool = False) -> None:
        self.path = out.with_name(out.name + ".lock")
        self._wait = wait
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._keep_beating, daemon=True, name="lock heartbeat")

    def __enter__(self) -> OutputLock:
        while not self._try_create():
            holder = _read(self.path)
            if holder is None:  # gone since: nobody's
                continue
            if not _is_alive(holder, self.path):
                self._take_away_the_dead()
            elif self._wait:
                time.sleep(_WAIT_SECONDS)
            else:
                raise _is_held(holder, self.path)
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
        with contextlib.suppress(OutputError):
            holder = _read(self.path)
            return holder is not None and holder.token == self._token
        return False

    def _try_create(self) -> bool:
        """Make the lock whole or not at all: written aside, then linked under its name."""
        aside = self.path.with_name(f".{self.path.name}.{self._token}")
        pid = os.getpid()
        holder = _Holder(socket.gethostname(), pid, _began(pid), self._token)
        try:
            with os.fdopen(open_plain(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "w", encoding="utf-8") as stream:
                json.dump(holder._asdict(), stream)
            return _link(aside, self.path)
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror})", remedy="choose another --out"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)

    def _take_away_the_dead(self) -> None:
        """Remove a dead one's lock. One process at a time may do that, and it looks again first: what it finds dead
        stays there until it removes it, so no living lock is removed instead."""
        claim = self.path.with_name(f".{self.path.name}.claim")
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            if _silence(claim) > _BEAT_SECONDS:  # whoever removed it died on the way
                claim.unlink(missing_ok=True)
            time.sleep(_CLAIM_SECONDS)
            return
        try:
            holder = _read(self.path)
            if holder is not None and not _is_alive(holder, self.path):
                self.path.unlink(missing_ok=True)
        finally:
            claim.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Files beside the lock whose makers were killed; those of a living one are a moment old."""
        ours = re.compile(re.escape(f".{self.path.name}.") + r"([0-9a-f]{32}|claim)")
        for path in self.path.parent.glob(f".{glob.escape(self.path.name)}.*"):
            if not ours.fullmatch(path.name):
                continue
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


def _read(path: Path) -> _Holder | None:
    """Who holds a lock; an unknown one where the file is being written or of any other content, None where it is gone.

    Raises:
        OutputError: a link or a folder stands there, which no run of ours has made.
    """
    try:
        text = read_plain(path).decode()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise OutputError(
                f"{path}: no lock file ({getattr(error, 'strerror', '')})", remedy="remove it, if nobody needs it"
            ) from error
        return _Holder()
    return _understood(text)


def _understood(text: str) -> _Holder:
    try:
        told = json.loads(text)
        holder = _Holder(str(told["host"]), int(told["pid"]), str(told["began"]), str(told["token"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return _Holder()
    return holder if 0 < holder.pid < 1 << 31 else _Holder()


def _is_held(holder: _Holder, path: Path) -> OutputError:
    who = f"process {holder.pid} on {holder.host}" if holder.pid else "another process"
    return OutputError(
        f"{path.name}: {who} is writing this output",
        remedy="wait for it, choose another --out, or use --shard i/n for several machines",
    )


def _is_alive(holder: _Holder, path: Path) -> bool:
    if holder.pid and holder.host == socket.gethostname():
        return _runs(holder.pid) and holder.began == _began(holder.pid)
    return _silence(path) < (_DEAD_AFTER_SECONDS if holder.pid else _BEAT_SECONDS)


def _silence(path: Path) -> float:
    """Seconds since the lock was touched, by the clock of its file system (clocks of machines differ); none where it is
    gone or nothing can be known: a lock that another one made meanwhile may stand there."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        probe.touch()
        return abs(probe.stat().st_mtime - path.stat().st_mtime)  # a time in the future is as good as one long ago
    except OSError:
        return 0.0
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
    """When a process began, in ticks since boot, so that a number used again is not taken for the old process; "" for
    one that has ended, also where its parent has not noticed yet."""
    try:
        state, *told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return told[18] if state not in "ZX" else ""
