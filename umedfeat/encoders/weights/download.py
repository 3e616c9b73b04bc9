"""Fetches official weights into a cache: resume, retry, content checks, and a pin from the first use on.

No checksum of the official files is published. So the sha256 of the first complete file is written beside it and every
later use must match it; a site can set its own pin with the environment variable ``UMEDFEAT_PIN_<NAME>``.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from umedfeat.disk.lock import OutputLock
from umedfeat.disk.plain import refuse_link
from umedfeat.encoders.cache import cache_folder, is_open_to_all
from umedfeat.encoders.weights.models import OfficialModel
from umedfeat.errors import CheckpointRefused, OutputError, WeightsUnavailable
from umedfeat.terminal.bar import Bar

__all__ = ["cached_file", "ensure_weights", "pin_of", "verify_pin", "verify_site_pin"]

log = logging.getLogger("umedfeat")

_BLOCK = 1 << 18
_STALL_SECONDS = 30.0
_TRIES = 3
_MAX_BYTES = 8 << 30
_LOCAL = {"localhost", "127.0.0.1", "::1"}


def cached_file(model: OfficialModel) -> Path:
    """Where a model's file lies in the cache, whether it is there or not."""
    return cache_folder() / model.file


def ensure_weights(model: OfficialModel, *, offline: bool = False, progress: bool = True) -> Path:
    """The model's file in the cache, fetched if it is not there.

    Args:
        model: of the registry.
        offline: do not use the network.
        progress: show a bar on stderr.

    Raises:
        WeightsUnavailable: it is not there and cannot be fetched; the message tells three ways out.
        CheckpointRefused: the cached file is not the one that was used first.
    """
    path = cached_file(model)
    try:
        if path.parent.is_dir():
            _refuse_links(path)
    except OSError as error:
        raise _unavailable(model, f"{error.filename}: {error.strerror}") from error
    if path.is_file():
        verify_pin(model, path)
        return path
    if offline:
        raise _unavailable(model, f"it is not in the cache ({path.parent}), and the network is not used (offline)")
    _tell_licence(model)
    reasons = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with OutputLock(path, wait=True):
            for url in model.urls:
                if path.is_file():  # another process was faster
                    verify_pin(model, path)
                    return path
                try:
                    _fetch(url, path, progress)
                    _pin_first_use(model, path)
                    return path
                except _FetchFailed as error:
                    reasons.append(f"{urlsplit(url).hostname}: {error}")
    except OutputError as error:
        reasons.append(error.message)
    except OSError as error:
        reasons.append(f"the cache {path.parent} cannot be written ({error.strerror})")
    raise _unavailable(model, "; ".join(reasons))


def pin_of(model: OfficialModel) -> str | None:
    """The sha256 that the model's file must have: the site's, else that of the first use, else None."""
    site = _site_pin(model)
    if site:
        return site
    pin = _pin_file(cached_file(model))
    return pin.read_text().strip() if pin.is_file() else None


def verify_site_pin(model: OfficialModel, path: Path) -> None:
    """A file that the user gives must be the site's, where the site has set a pin; no pin of a first use applies to it.

    Raises:
        CheckpointRefused: it differs.
    """
    if _site_pin(model):
        verify_pin(model, path)


def _site_pin(model: OfficialModel) -> str:
    return os.environ.get("UMEDFEAT_PIN_" + model.name.upper().replace("-", "_"), "").strip().lower()


def verify_pin(model: OfficialModel, path: Path) -> str:
    """The file's sha256, after comparing it with the pin (which is set now if there is none).

    Raises:
        CheckpointRefused: it differs.
    """
    from umedfeat.encoders.weights.checkpoint import file_sha256

    digest, pin = file_sha256(path), pin_of(model)
    if pin is None:
        with contextlib.suppress(OSError):  # a read-only cache is used as it is
            _pin_file(path).write_text(digest + "\n")
    elif pin != digest:
        raise CheckpointRefused(
            f"{path.name}: sha256 {digest[:16]}… is not the pinned {pin[:16]}…",
            remedy=f"remove {path} and its .sha256 to fetch it anew, if you trust the change",
        )
    return digest


class _FetchFailed(Exception):
    """One URL could not be fetched."""


def _part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _etag_of(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _pin_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _pin_first_use(model: OfficialModel, path: Path) -> None:
    try:
        verify_pin(model, path)
    except CheckpointRefused:
        path.unlink(missing_ok=True)
        raise


def _tell_licence(model: OfficialModel) -> None:
    log.warning("fetching %s. Licence of the weights: %s. Cite: %s", model.file, model.licence, model.citation)


def _unavailable(model: OfficialModel, reason: str) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"the weights of {model.name} cannot be had: {reason}",
        remedy=f"fetch {model.urls[0]} by hand and give --weights FILE, put it at {cached_file(model)}, "
        "or use --encoder umedfeat-open (comes with umedfeat)",
    )


def _refuse_links(path: Path) -> None:
    """Nothing in the cache is read or written behind a link; a cache that anybody can write to is told.

    Raises:
        OSError: the file, its part or its pin is a link.
    """
    part = _part_of(path)
    for own in (path, part, _etag_of(part), _pin_file(path)):
        refuse_link(own)
    if is_open_to_all(path.parent):
        log.warning("%s: anybody on this machine can replace weights in this cache (chmod o-w)", path.parent)


def _fetch(url: str, path: Path, progress: bool) -> None:
    """Download with resume into ``<path>.part``; rename when it is whole and a zip."""
    if not _is_safe(url):
        raise _FetchFailed("only https is used")
    part = _part_of(path)
    fault = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(min(4.0, 0.5 * 2**attempt))
        try:
            _continue_download(url, part, progress)
            _check_content(part)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            fault = _reason(error)
            if isinstance(error, urllib.error.HTTPError):
                if error.code in (401, 403, 404, 410):
                    break
                if error.code == 416:  # the part does not fit into the file: it is another one by now
                    part.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _FetchFailed(f"the disk of the cache is full ({path.parent})") from error
            fault = _reason(error)
        else:
            part.replace(path)
            return
    raise _FetchFailed(fault)


def _continue_download(url: str, part: Path, progress: bool) -> None:
    have = part.stat().st_size if part.is_file() else 0
    tag_file = _etag_of(part)
    tag = tag_file.read_text() if have and tag_file.is_file() else ""
    headers = {"User-Agent": "umedfeat"}
    if have and tag:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    with _opened(urllib.request.Request(url, headers=headers)) as reply:
        current = reply.headers.get("ETag") or reply.headers.get("Last-Modified") or ""
        if reply.status != 206:
            have = 0
        elif not _continues(reply, have) or (current and current != tag):
            part.unlink()
            raise http.client.HTTPException("the server sent another part than asked for")
        tag_file.write_text(current or tag if have else current)
        length = reply.headers.get("Content-Length")
        total = have + int(length) if length else None
        if total is not None and total > _MAX_BYTES:
            raise http.client.HTTPException(f"{total} bytes are more than any known model")
        _receive(reply, part, have, total, progress)
    tag_file.unlink(missing_ok=True)


def _continues(reply: Any, have: int) -> bool:
    """Does a partial answer begin where ours ends? (What it does not say is checked when the file is whole.)"""
    stated = reply.headers.get("Content-Range")
    return stated is None or str(stated).strip().startswith(f"bytes {have}-")


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never away from https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not _is_safe(newurl):
            raise http.client.HTTPException("redirected away from https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in _LOCAL


def _opened(request: urllib.request.Request) -> Any:
    return urllib.request.build_opener(_HttpsRedirects).open(request, timeout=_STALL_SECONDS)


def _receive(reply: Any, part: Path, have: int, total: int | None, progress: bool) -> None:
    bar = Bar(part.name.removesuffix(".part"), total or 0, "B", shown=None if progress else False, initial=have)
    with bar, part.open("ab" if have else "wb") as out:
        while block := reply.read1(_BLOCK):  # what has come in, so that a stall loses nothing
            have += len(block)
            if have > _MAX_BYTES:
                raise http.client.HTTPException("more bytes than any known model has")
            out.write(block)
            bar.update(len(block))
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)


def _check_content(part: Path) -> None:
    """A web page with status 200 is not a model, nor is a zip without its end."""
    with part.open("rb") as stream:
        magic = stream.read(512)
    if magic[:4] != b"PK\3\4" or not zipfile.is_zipfile(part):
        part.unlink()
        kind = (
            "a web page (to log in or to confirm?)"
            if magic.lstrip()[:1] == b"<"
            else "something else than a weights file, or a cut one"
        )
        raise http.client.HTTPException(f"the server sent {kind}")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    if isinstance(error, urllib.error.URLError):
        return str(getattr(error.reason, "strerror", None) or error.reason)
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended early"
    return str(error) or type(error).__name__
