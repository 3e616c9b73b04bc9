"""Where the output goes: space, and what its file system can do. Everything is tried in a folder that is removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from umedfeat.disk.lock import OutputLock
from umedfeat.disk.space import reserve
from umedfeat.doctor.finding import Finding, State, Wish, failed, shown
from umedfeat.errors import OutputError, SetupError
from umedfeat.extraction.run import writable
from umedfeat.terminal.tables import human_bytes

__all__ = ["disks", "output_folder", "shared_memory"]

_MOUNTS = Path("/proc/self/mounts")
_SHM = Path("/dev/shm")
#: A segment must fit at the least; below the second a cohort's features may not.
_LEAST_SPACE = 64 << 20
_LITTLE_SPACE = 1 << 30
_LITTLE_SHM = 1 << 30
_OTHER_PLACE = "choose another --out, or ask who runs the file system for"


def disks(wish: Wish) -> Iterator[Finding]:
    """Free space for the output and for temporary files."""
    for name, folder in (("disk", wish.out.absolute().parent), ("temporary files", Path(tempfile.gettempdir()))):
        if not folder.is_dir():  # told where the output folder is tried
            continue
        free = shutil.disk_usage(folder).free
        seen = f"{human_bytes(free)} free in {shown(folder)}"
        state: State = "fail" if free < _LEAST_SPACE and name == "disk" else "note" if free < _LITTLE_SPACE else "ok"
        yield Finding(name, state, seen, "" if state == "ok" else "free some space, or choose another place")


def shared_memory(wish: Wish) -> Iterator[Finding]:
    """/dev/shm, which only others use: pixels travel through memory without a name."""
    if not _SHM.is_dir():
        yield Finding("/dev/shm", "ok", "none; it is not needed")
        return
    use = shutil.disk_usage(_SHM)
    seen = f"{human_bytes(use.free)} of {human_bytes(use.total)} free (extract does not need it; torch's loaders may)"
    small = use.total < _LITTLE_SHM
    yield Finding("/dev/shm", "note" if small else "ok", seen, "docker run --shm-size=8g" if small else "")


def output_folder(wish: Wish) -> Iterator[Finding]:
    """Can a feature file be written there: renamed whole, made safe, locked?"""
    try:
        folder = writable(wish.out).absolute().parent
        with tempfile.TemporaryDirectory(prefix=".umedfeat-doctor-", dir=folder) as scratch:
            results = {name: _fault(attempt, Path(scratch)) for name, attempt in _NEEDED.items()}
            helpful = {name: _fault(attempt, Path(scratch)) for name, attempt in _HELPFUL.items()}
    except SetupError as error:
        yield failed("output folder", error)
        return
    except OSError as error:
        yield Finding("output folder", "fail", f"{shown(folder)}: {error.strerror}", "choose another --out")
        return
    kind = file_system_of(folder)
    good = ", ".join(name for name, fault in (results | helpful).items() if not fault)
    yield Finding("output folder", "ok", f"{kind or 'file system of unknown kind'}: {good}")
    for name, fault in results.items():
        if fault:
            yield Finding(f"output folder: {name}", "fail", fault, f"{_OTHER_PLACE} {name}")
    for name, fault in helpful.items():
        if fault:
            yield Finding(f"output folder: {name}", "note", f"{fault}; not needed, there is another way")


def file_system_of(folder: Path) -> str:
    """The kind of file system that a folder lies on ("ext4", "nfs4", "lustre"); "" where the system does not tell."""
    try:
        mounts = [line.split()[1:3] for line in _MOUNTS.read_text().splitlines()]
    except OSError:
        return ""
    above = {str(path) for path in (folder.resolve(), *folder.resolve().parents)}
    return max(((len(point), kind) for point, kind in mounts if point in above), default=(0, ""))[1]


def _fault(attempt: Callable[[Path], None], folder: Path) -> str:
    """What went wrong with an attempt; "" for nothing."""
    try:
        attempt(folder)
    except (OSError, OutputError) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""


def _try_rename(folder: Path) -> None:
    new, old = folder / "new", folder / "old"
    new.write_text("new")
    old.write_text("old")
    new.replace(old)
    if old.read_text() != "new":
        raise OSError(0, "a renamed file does not replace the one that was there")


def _try_fsync(folder: Path) -> None:
    with (folder / "safe").open("wb") as stream:
        stream.write(b"safe")
        stream.flush()
        os.fsync(stream.fileno())


def _try_lock(folder: Path) -> None:
    with OutputLock(folder / "locked"), contextlib.suppress(OutputError), OutputLock(folder / "locked"):
        raise OSError(0, "two writers hold the same lock")


def _try_hdf5(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "features.h5", "w") as file:
        file["rows"] = [1.0, 2.0]
    with h5py.File(folder / "features.h5") as file:
        if list(file["rows"]) != [1.0, 2.0]:
            raise OSError(0, "HDF5 reads something else than it wrote")


def _try_reserve(folder: Path) -> None:
    with (folder / "reserved").open("wb") as stream:
        reserve(stream.fileno(), 1 << 16)


def _try_link(folder: Path) -> None:
    (folder / "one").write_text("one")
    os.link(folder / "one", folder / "other")


_NEEDED = {"rename": _try_rename, "fsync": _try_fsync, "locks": _try_lock, "HDF5": _try_hdf5, "space": _try_reserve}
_HELPFUL = {"hard links": _try_link}
