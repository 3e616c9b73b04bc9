"""The mirror of URLs on this machine: a folder of stubs, in which discovery looks as in any other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from umedfeat.errors import SetupError, UnreadableInput
from umedfeat.remote.address import Address, address_of, file_system
from umedfeat.remote.fetch import RemoteFile, insist, tag_of
from umedfeat.remote.stubs import make_stub

__all__ = ["Mirror"]

#: Asking waits for the network, not for a core.
_THREADS = 16
_ENVIRONMENT = "look at the URL; credentials come from the environment (AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS …)"


class Mirror:
    """Stubs below a folder.

    Args:
        folder: exists, and is removed by whoever made it.

    Attributes:
        files: place → the object that belongs there.
        faults: place → why there is no stub.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[Path, RemoteFile] = {}
        self.faults: dict[Path, UnreadableInput] = {}

    def place_of(self, url: Path | str) -> Path:
        """Where an object lies, or what a folder would be."""
        return self.folder / _safe(address_of(url).name)

    def add(self, *urls: Path | str) -> None:
        """Make the stubs of objects, and of all that lies below what folders would be.

        Raises:
            SetupError: a URL names nothing, cannot be asked, or needs an extra.
        """
        listed = [file for url in urls for file in self._listed(address_of(url))]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="stub") as threads:
            for file, fault in zip(listed, threads.map(_stubbed, listed), strict=True):
                self.files[file.place] = file
                if fault is not None:
                    self.faults[file.place] = fault

    def _listed(self, address: Address) -> Iterator[RemoteFile]:
        system, path = file_system(address)
        try:
            if address.scheme.startswith("http"):
                found = {path: insist(lambda: system.info(path), address.name, threading.Event())}
            else:
                found = {path: system.info(path)} if system.isfile(path) else system.find(path, detail=True)
        except UnreadableInput as error:
            raise SetupError(f"{address.scheme}://{error.message}", remedy=_ENVIRONMENT) from error
        except Exception as error:  # every file system has exceptions of its own
            message = f"{address.scheme}://{address.name}: cannot be listed ({type(error).__name__})"
            raise SetupError(message, remedy=_ENVIRONMENT) from error
        if not found:
            raise SetupError(f"{address.scheme}://{address.name}: nothing is there", remedy=_ENVIRONMENT)
        for name, told in sorted(found.items()):
            if not (name.endswith("/") or told.get("type") == "directory"):  # what consoles make for a folder
                yield self._file(address, path, name, told)

    def _file(self, address: Address, path: str, name: str, told: dict[str, Any]) -> RemoteFile:
        below = name.removeprefix(path).lstrip("/") if name != path else ""
        own = address
        if below:
            joined = address.url.rstrip("/") + "/" + below
            own = Address(joined, address.name.rstrip("/") + "/" + below, address.scheme)
        size = told.get("size")
        if not isinstance(size, int):
            raise SetupError(f"{own.name}: the server does not tell its size", remedy="copy it to this machine first")
        return RemoteFile(own, size, tag_of(told), self.folder / _safe(own.name))


def _stubbed(file: RemoteFile) -> UnreadableInput | None:
    try:
        make_stub(file)
    except UnreadableInput as error:
        return error
    except OSError as error:  # a name or a size that no disk takes; an object that stands where others have a folder
        why = error.strerror or type(error).__name__
        message = f"{file.address.name}: cannot be put to {file.place.parent} ({why})"
        return UnreadableInput(message, remedy="copy it to this machine yourself, or choose another --scratch")
    return None


def _safe(name: str) -> PurePosixPath:
    """A name that stays below the folder, whatever a server says."""
    return PurePosixPath(*(part for part in name.split("/") if part not in ("", ".", "..")))
