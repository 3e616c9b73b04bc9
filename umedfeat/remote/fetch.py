"""Bytes of an object, whatever the network does: cut, stalled and half answers are asked for again where they ended."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from umedfeat.errors import UnreadableInput
from umedfeat.remote.address import Address, file_system

__all__ = ["RemoteFile", "changed", "facts_of_remote", "fetch", "insist", "read_range"]

_CHUNK = 16 << 20
_TRIES = 5
#: Before the second try; doubled for each further one.
_PAUSE_SECONDS = 1.0
_REMEDY = "look at the network and the server, and run the same command again: finished inputs are kept"


class RemoteFile(NamedTuple):
    """An object, and where it lies on this machine once it has been fetched.

    Attributes:
        address: where it is. size: in bytes.
        tag: its ETag, or what else tells one content from another (the time of its change); "" if nothing does.
        place: its file on this machine.
    """

    address: Address
    size: int
    tag: str
    place: Path

    @property
    def time_ns(self) -> int:
        """A time of change for ``place``, made of the tag: whoever compares sizes and times compares tags."""
        digest = hashlib.sha256(self.tag.encode()).digest()
        return (1_000_000_000 + int.from_bytes(digest[:4], "little") // 8) * 1_000_000_000


def facts_of_remote(files: Sequence[RemoteFile]) -> dict[str, Any]:
    """What a feature file keeps of objects: how many, how large, and one tag for all of them; no address."""
    tags = [file.tag for file in files]
    tag = tags[0] if len(tags) == 1 else hashlib.sha256("\n".join(tags).encode()).hexdigest()
    return {"objects": len(files), "bytes": sum(file.size for file in files), "etag": tag}


def fetch(file: RemoteFile, stop: threading.Event | None = None) -> None:
    """Bring an object to its place, whole or not at all.

    Raises:
        UnreadableInput: it cannot be had, it is not what was listed, or the disk is full.
    """
    partial = file.place.with_name(f".{file.place.name}.part")
    try:
        _make_private(file.place.parent)
        with partial.open("wb") as target:
            while (done := target.tell()) < file.size:
                target.write(read_range(file, done, min(done + _CHUNK, file.size), stop))
        if changed(file):
            raise UnreadableInput(f"{file.address.name}: changed while it was fetched", remedy=_REMEDY)
        os.utime(partial, ns=(file.time_ns, file.time_ns))
        partial.replace(file.place)
    except OSError as error:
        message = (
            f"{file.address.name}: cannot be put to {file.place.parent} ({error.strerror or type(error).__name__})"
        )
        raise UnreadableInput(message, remedy="free some space there, or choose another --scratch") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _make_private(folder: Path) -> None:
    """A folder, with those above it, that nobody else may look into: on another machine the scratch folder is new."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def read_range(file: RemoteFile, first: int, end: int, stop: threading.Event | None = None) -> bytes:
    """Bytes ``first`` to ``end`` (not included) of an object.

    Raises:
        UnreadableInput: not to be had in five tries.
    """
    system, path = file_system(file.address)

    def ask() -> bytes:
        data: bytes = system.cat_file(path, start=first, end=end)
        if len(data) == file.size != end - first:  # a server that knows no ranges
            data = data[first:end]
        if len(data) != end - first:
            raise EOFError(f"{len(data)} of {end - first} bytes")
        return data

    data: bytes = insist(ask, file.address.name, stop or threading.Event())
    return data


def changed(file: RemoteFile) -> bool:
    """Is the object another one than was listed?"""
    system, path = file_system(file.address)
    if hasattr(system, "invalidate_cache"):
        system.invalidate_cache()
    told = insist(lambda: system.info(path), file.address.name, threading.Event())
    return (told.get("size"), tag_of(told)) != (file.size, file.tag)


def tag_of(told: dict[str, Any]) -> str:
    """What a file system tells of the content of an object."""
    found = next((told[key] for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime") if told.get(key)), "")
    return str(found).strip('"')


def insist(ask: Callable[[], Any], name: str, stop: threading.Event) -> Any:
    """An answer over a bad network, asked for five times at most, with a pause before each further time.

    Args:
        ask: raises what its file system raises. name: of the object, for the message. stop: no further times.

    Raises:
        UnreadableInput: the server refuses it, or there was no answer; the reason is told.
    """
    last: Exception | None = None
    for number in range(_TRIES):
        if number and stop.wait(_PAUSE_SECONDS * 2 ** (number - 1)):
            break
        try:
            return ask()
        except Exception as error:  # every file system has exceptions of its own
            if _is_final(error):
                message = f"{name}: {_reason(error)}"
                remedy = "look at the URL; credentials come from the environment"
                raise UnreadableInput(message, remedy=remedy) from error
            last = error
    message = f"{name}: cannot be fetched ({_reason(last) if last else 'stopped'})"
    raise UnreadableInput(message, remedy=_REMEDY) from last


def _is_final(error: Exception) -> bool:
    """Would the same question get the same answer? The server understood it, and will not."""
    behind = _behind(error)
    status = _status(behind)
    if status:
        return 400 <= status < 500 and status not in _BUSY
    return isinstance(behind, FileNotFoundError | PermissionError)


def _reason(error: Exception) -> str:
    behind = _behind(error)
    status = _status(behind)
    if status in {401, 403} or isinstance(behind, PermissionError):
        return "no permission"
    if status in {404, 410} or isinstance(behind, FileNotFoundError):
        return "not there"
    return f"the server says {status}" if status else type(behind).__name__


def _behind(error: Exception) -> BaseException:
    """What fsspec's "the file is not there" means, which it says of any answer over HTTP, and of none."""
    cause = error.__cause__
    return cause if cause is not None and type(cause).__module__.startswith(("aiohttp", "asyncio")) else error


def _status(error: BaseException) -> int:
    """The status code of an answer over HTTP; 0: there was none."""
    status = getattr(error, "status", 0)
    return status if isinstance(status, int) else 0


#: Statuses that mean "later": a time-out, too early, too many requests.
_BUSY = {408, 425, 429}
