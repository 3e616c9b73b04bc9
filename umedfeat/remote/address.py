"""URLs that may be inputs, and what reads them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from umedfeat.errors import SetupError

__all__ = ["STALL_SECONDS", "Address", "address_of", "file_system", "is_url"]

#: A connection that says nothing for so long is given up, and tried again.
STALL_SECONDS = 30.0
_CONNECT_SECONDS = 10.0

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
#: Scheme → the extra that brings what reads it.
_EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure", "http": "http", "https": "http"}
_OTHER_NAMES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}


class Address(NamedTuple):
    """An object, or what a folder would be.

    Attributes:
        url: as it is asked for. name: without scheme and query, which may hold signatures.
        scheme: s3, gs, az, http or https.
    """

    url: str
    name: str
    scheme: str


def is_url(path: Path | str) -> bool:
    """Does it begin with a scheme? (``Path("s3://x")`` is "s3:/x".)"""
    return _SCHEME.match(str(path)) is not None


def address_of(path: Path | str) -> Address:
    """The URL that a path stands for.

    Raises:
        SetupError: of a kind that is not read, or with a user name or password in it.
    """
    text = re.sub(r"^([^:/]+):/+", r"\1://", str(path))
    scheme = text.partition("://")[0].lower()
    scheme = _OTHER_NAMES.get(scheme, scheme)
    if scheme not in _EXTRAS:
        message = f"{text}: {scheme}:// is not read"
        raise SetupError(message, remedy="s3://, gs://, az:// and https:// are; or copy it to this machine first")
    parts = urlsplit(text)
    if "@" in parts.netloc:
        message = f"{scheme}://…@{parts.hostname}: a user name or password in a URL"
        raise SetupError(message, remedy="credentials come from the environment alone")
    return Address(text.replace(text.partition("://")[0], scheme, 1), f"{parts.netloc}{parts.path}", scheme)


def file_system(address: Address) -> tuple[Any, str]:
    """(fsspec's file system, the path within it); credentials come from the environment.

    Raises:
        SetupError: what reads such URLs is not installed.
    """
    extra = _EXTRAS[address.scheme]
    try:
        import fsspec

        return fsspec.core.url_to_fs(address.url, **_options(address.scheme))  # type: ignore[no-any-return]
    except ImportError as error:
        message = f"{address.scheme}://{address.name}: URLs need umedfeat[{extra}]"
        raise SetupError(message, remedy=f"pip install 'umedfeat[{extra}]'") from error


def _options(scheme: str) -> dict[str, Any]:
    """Such that nothing waits for ever; what fails is tried again by ``umedfeat.remote.fetch``."""
    if scheme in {"http", "https"}:
        import aiohttp

        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=STALL_SECONDS)
        return {"client_kwargs": {"timeout": limits}}
    if scheme == "s3":
        retries = {"connect_timeout": _CONNECT_SECONDS, "read_timeout": STALL_SECONDS, "retries": {"max_attempts": 2}}
        options = {"config_kwargs": retries, "use_listings_cache": False}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return {**options, "endpoint_url": endpoint} if endpoint else options
    return {}
