"""Archives: a .zip of DICOM files is unpacked to scratch space, within limits, for as long as the run needs it.

A name inside an archive never becomes a path on disk, so it cannot lead elsewhere; the scratch folder is readable by
its owner alone and goes with the ``Discovery`` that holds it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from umedfeat.contract import Failure, Found, Skipped
from umedfeat.errors import InputError, TooLarge, UnreadableInput
from umedfeat.naming import printable
from umedfeat.policy import Limits

__all__ = ["Scratch", "Unpacked", "unpacked"]

_MAGIC = b"PK\x03\x04"
_PREAMBLE = 132
_ENCRYPTED = 1
_MOST_MEMBERS = 1_000_000
#: Bytes above which an archive must not unfold this many times: images do not compress like that.
_SMALL, _RATIO = 1 << 30, 100
_BLOCK = 1 << 20
_GIB = 1 << 30
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


class Scratch:
    """A folder below TMPDIR (or ``parent``) for its owner alone, removed by ``close``, with the last reference, or at
    exit.

    Only the process that made it holds it: sources that travel to another one go without.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="umedfeat-", dir=parent))
        self._remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _stays_at_home, ()

    def close(self) -> None:
        """Remove it, once or again."""
        self._remove()


def _stays_at_home() -> None:
    return None


class Unpacked(NamedTuple):
    """Files, those of archives in the place of the archives. ``scratch``: where those were put."""

    found: list[Found]
    skipped: list[Skipped]
    failures: list[Failure]
    scratch: tuple[Scratch, ...]


def unpacked(found: Sequence[Found], limits: Limits) -> Unpacked:
    """Put the DICOM files of every archive in its place; archives without one stay as they are."""
    result = Unpacked([], [], [], ())
    scratch: list[Scratch] = []
    for file in found:
        if not _is_archive(file.path):
            result.found.append(file)
            continue
        try:
            _unpack(file, limits, result, scratch)
        except InputError as error:
            result.failures.append(Failure(file.name, "discover", type(error).__name__, error.message, error.remedy))
    return result._replace(scratch=tuple(scratch))


def _is_archive(path: Path) -> bool:
    if path.suffix.lower() != ".zip":
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(4) == _MAGIC
    except OSError:  # told when the file is looked at
        return False


def _unpack(file: Found, limits: Limits, result: Unpacked, scratch: list[Scratch]) -> None:
    try:
        with zipfile.ZipFile(file.path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if any(member.flag_bits & _ENCRYPTED for member in members):
                raise UnreadableInput(f"{file.name}: the archive is encrypted", remedy="unpack it first")
            images = [member for member in members[: _MOST_MEMBERS + 1] if _is_dicom(archive, member)]
            if not images:
                result.found.append(file)
                return
            _refuse_bomb(file, members, images, limits)
            scratch.append(Scratch())
            folder = scratch[-1].folder
            times = file.path.stat()
            for number, member in enumerate(images):
                place = folder / f"{number:07d}"
                _copy(archive, member, place)
                os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same in every run
                result.found.append(Found(place, f"{file.name}/{_safe(member.filename)}", file.row))
            others = {member.filename for member in members} - {member.filename for member in images}
            reason = "no DICOM file; of archives only these are read"
            result.skipped.extend(Skipped(f"{file.name}/{_safe(name)}", reason) for name in sorted(others))
    except _FAULTS as error:
        message = f"{file.name}: the archive is damaged ({type(error).__name__})"
        raise UnreadableInput(message, remedy="copy it again from its origin, or unpack it first") from error


def _safe(name: str) -> str:
    """A member's name for messages and ids: no steps upwards, no root."""
    return "/".join(part for part in printable(name.replace("\\", "/")).split("/") if part not in ("", ".", ".."))


def _is_dicom(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    with archive.open(member) as stream:
        return stream.read(_PREAMBLE)[-4:] == b"DICM"


def _refuse_bomb(
    file: Found, members: Sequence[zipfile.ZipInfo], images: Sequence[zipfile.ZipInfo], limits: Limits
) -> None:
    size, total = file.path.stat().st_size, sum(member.file_size for member in images)
    if len(members) > _MOST_MEMBERS:
        raise TooLarge(f"{file.name}: more than {_MOST_MEMBERS:,} files in the archive", remedy="unpack it first")
    if total > limits.max_unzipped or (total > _SMALL and total > _RATIO * size):
        message = f"{file.name}: {size:,} bytes unfold to {total:,}"
        raise TooLarge(message, remedy="raise --max-unzipped if this is right, or unpack it first")
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if total > free:
        message = f"{file.name}: {total / _GIB:.1f} GiB of scratch space needed, {free / _GIB:.1f} GiB are free"
        raise TooLarge(message, remedy="free space there, or let TMPDIR name a folder on a larger disk")


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> None:
    with place.open("wb") as target:
        for block in _blocks(archive, member):
            target.write(block)


def _blocks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """No more bytes than were promised, whatever the stream unfolds to."""
    left = member.file_size
    with archive.open(member) as stream:
        while left > 0 and (block := stream.read(min(_BLOCK, left))):
            left -= len(block)
            yield block
