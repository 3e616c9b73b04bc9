"""The key for pseudonyms: found, made, and checked.

The key is the site's own (``--id-key FILE`` or the environment variable UMEDFEAT_ID_KEY), or a random one that is made
for the user on first use and readable by nobody else. Who has the key can recompute pseudonyms from identifiers; nobody
can go back without it. One patient has one pseudonym only under one key: every machine of a study needs the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from umedfeat.disk.plain import open_plain, read_plain
from umedfeat.errors import SetupError

__all__ = ["KeyFacts", "check_key", "default_key_path", "key_check", "load_key", "new_key"]

log = logging.getLogger("umedfeat")

_MIN_BYTES = 16
#: A key that people have made up is guessed sooner than a random one: below this it should be random.
_SHORT_BYTES = 24
_FEW_LETTERS = 8
_READABLE_BY_OTHERS = 0o044
_REMEDY = "make one with `umedfeat key new FILE`, and give it with --id-key FILE or UMEDFEAT_ID_KEY"


@dataclass(frozen=True)
class KeyFacts:
    """What may be told of a key.

    Attributes:
        path: its file.
        check: ``key_check`` of it, which stands in feature files made with it.
        warnings: what makes it weak, one line each; empty for a good one.
    """

    path: Path
    check: str
    warnings: tuple[str, ...]


def key_check(key: bytes) -> str:
    """12 hex digits that tell two keys apart and nothing else: HMAC-SHA256 of a constant under the key."""
    return hmac.new(key, b"umedfeat key check", hashlib.sha256).hexdigest()[:12]


def default_key_path() -> Path:
    """Where the user's own key lies: ``<config folder>/umedfeat/id-key``."""
    if os.environ.get("XDG_CONFIG_HOME"):
        return Path(os.environ["XDG_CONFIG_HOME"], "umedfeat", "id-key")
    return Path.home() / ".config" / "umedfeat" / "id-key"


def load_key(path: Path | None = None, *, make: bool = True, shared: bool = False) -> bytes:
    """The key for pseudonyms: of a file, of UMEDFEAT_ID_KEY's file, or the user's own, made on first use (mode 0600).

    Args:
        path: file with the key; a link is not followed.
        make: write the user's own key where there is none; else a passing one is used (a dry run writes nothing).
        shared: other machines take part: a key that only this one has would give their patients other pseudonyms.

    Raises:
        SetupError: the file is missing or too short, no key can be made, or it would be made while others work too.
    """
    place = _given(path)
    own = default_key_path()
    try:
        if place is None and not os.path.lexists(own):
            if not make:
                return secrets.token_hex(32).encode()
            if shared:
                raise SetupError(
                    f"{own}: no key yet; every machine would make one of its own, and a patient have two pseudonyms",
                    remedy="make one with `umedfeat key new FILE`, and give it to all of them with --id-key FILE",
                )
            _write_key(own)
        return _read_key(place or own, warn=True)
    except OSError as error:
        raise SetupError(f"{place or own}: no key for pseudonyms ({error.strerror})", remedy=_REMEDY) from error


def new_key(path: Path) -> KeyFacts:
    """Write a new random key (64 hex digits, mode 0600).

    Raises:
        SetupError: the file exists, or cannot be written.
    """
    try:
        if not _write_key(path):
            raise SetupError(f"{path}: exists", remedy="a key is never replaced: its pseudonyms would be lost")
    except OSError as error:
        raise SetupError(f"{path}: cannot be written ({error.strerror})", remedy="choose another file") from error
    return check_key(path)


def check_key(path: Path | None = None) -> KeyFacts:
    """What may be told of a key file (default: the one that ``load_key`` would take; none is made).

    Raises:
        SetupError: it is missing, too short, or a link.
    """
    place = _given(path) or default_key_path()
    try:
        key = _read_key(place, warn=False)
        return KeyFacts(place, key_check(key), _weaknesses(key, place))
    except OSError as error:
        raise SetupError(f"{place}: no key for pseudonyms ({error.strerror})", remedy=_REMEDY) from error


def _given(path: Path | None) -> Path | None:
    named = os.environ.get("UMEDFEAT_ID_KEY")
    return path or (Path(named) if named else None)


def _read_key(path: Path, *, warn: bool) -> bytes:
    key = read_plain(path).strip()
    if len(key) < _MIN_BYTES:
        message = f"{path}: a key for pseudonyms needs {_MIN_BYTES} bytes, this has {len(key)}"
        raise SetupError(message, remedy=_REMEDY)
    for weakness in _weaknesses(key, path) if warn else ():
        log.warning("%s: %s", path.name, weakness)
    return key


def _weaknesses(key: bytes, path: Path) -> tuple[str, ...]:
    """Who reads or guesses the key can test identifiers against the pseudonyms."""
    found = []
    if os.name == "posix" and path.stat().st_mode & _READABLE_BY_OTHERS:
        found.append("this key can be read by others on this machine (chmod 600 protects it)")
    if len(key) < _SHORT_BYTES:
        found.append(f"this key is short ({len(key)} bytes); `umedfeat key new` makes one of 64")
    if len(set(key)) < _FEW_LETTERS or key in (key + key)[1:-1]:  # a whole number of repetitions lies in its double
        found.append("this key repeats itself; `umedfeat key new` makes a random one")
    return tuple(found)


def _write_key(path: Path) -> bool:
    """Write a new key whole or not at all; of two processes that start together, the first one's counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(open_plain(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "wb") as stream:
        stream.write(secrets.token_hex(32).encode())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
            return True
        return False
    finally:
        temporary.unlink(missing_ok=True)
