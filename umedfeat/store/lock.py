"""One writer per output: a lock file with host, process and heartbeat; a dead one's lock is taken over."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

from umedfeat.errors import OutputError

__all__ = ["OutputLock"]

_BEAT_SECONDS = 10.0
_DEAD_AFTER_SECONDS = 120.0


class OutputLock:
    """Holds ``<out>.lock`` while a run writes.

    Args:
        out: the feature file.

    Raises (on enter):
        OutputError: another living process writes to the same output.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(out.name + ".lock")
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._keep_beating, daemon=True, name="lock heartbeat")

    def __enter__(self) -> OutputLock:
        while not self._try_create():
            holder = self._holder()
            if _is_alive(holder, self.path):
                raise OutputError(
                    f"{self.path.name}: process {holder.get('pid')} on {holder.get('host')} is writing this output",
                    remedy="wait for it, choose another --out, or use --shard i/n for several machines",
                )
            self.path.unlink(missing_ok=True)
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._beat.join()
        self.path.unlink(missing_ok=True)

    def _try_create(self) -> bool:
        text = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()})
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror})", remedy="choose another --out"
            ) from error
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        return True

    def _holder(self) -> dict[str, object]:
        try:
            holder: dict[str, object] = json.loads(self.path.read_text())
        except (OSError, ValueError):  # just gone, or killed while writing it
            return {}
        return holder

    def _keep_beating(self) -> None:
        while not self._stop.wait(_BEAT_SECONDS):
            try:
                os.utime(self.path)
            except OSError:  # somebody removed it; the run itself is not in danger
                return


def _is_alive(holder: dict[str, object], path: Path) -> bool:
    try:
        silent = time.time() - path.stat().st_mtime
    except OSError:
        return False
    if not holder:
        return silent < _BEAT_SECONDS
    if holder.get("host") == socket.gethostname():
        return _runs(int(str(holder["pid"])))
    return silent < _DEAD_AFTER_SECONDS


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
