"""How things are called: stems of file names, identity of content, keyed pseudonyms.

Patient and study identifiers leave the reader only as HMAC-SHA256.

The key is the site's own (``--id-key FILE`` or the environment variable UMEDFEAT_ID_KEY), or a random one that is made
for the user on first use and readable by nobody else. Who has the key can recompute pseudonyms from identifiers; nobody
can go back without it. Use one key for all shards and runs whose patients shall be recognised as the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from umedfeat.errors import SetupError

__all__ = ["IMAGE_SUFFIXES", "Pseudonyms", "content_sha256", "default_key_path", "load_key", "stem_of"]

log = logging.getLogger("umedfeat")

#: Suffixes that promise an image: such a file that nothing recognises has failed; any other was merely skipped.
IMAGE_SUFFIXES = frozenset(
    {
        ".svs",
        ".ndpi",
        ".mrxs",
        ".scn",
        ".vms",
        ".vmu",
        ".bif",
        ".svslide",
        ".czi",
        ".tif",
        ".tiff",
        ".ome.tif",
        ".ome.tiff",
    }
    | {".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".hdr", ".mgz", ".mgh", ".par", ".rec"}
    | {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
)


_WHOLE_HASH_BYTES = 64 << 20
_HASH_BLOCK = 1 << 20
_MIN_KEY_BYTES = 16
_REMEDY = "give a key file with --id-key FILE (any secret of 16 bytes or more) or UMEDFEAT_ID_KEY"


@dataclass(frozen=True)
class Pseudonyms:
    """Turns identifiers into stable pseudonyms.

    Attributes:
        key: secret bytes; the same key gives the same pseudonyms (across shards, runs and machines).
        keep: return identifiers as they are (``--keep-ids``, after a warning).
    """

    key: bytes
    keep: bool = False

    def of(self, identifier: str, *, kind: str = "patient") -> str:
        """16 hex digits for an identifier; "" for an empty one. ``kind`` separates patients from studies and series."""
        identifier = identifier.strip()
        if not identifier or self.keep:
            return identifier
        return hmac.new(self.key, f"{kind}\0{identifier}".encode(), hashlib.sha256).hexdigest()[:16]


def default_key_path() -> Path:
    """Where the user's own key lies: ``<config folder>/umedfeat/id-key``."""
    if os.environ.get("XDG_CONFIG_HOME"):
        return Path(os.environ["XDG_CONFIG_HOME"], "umedfeat", "id-key")
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", str(Path.home())), "umedfeat", "id-key")
    return Path.home() / ".config" / "umedfeat" / "id-key"


def load_key(path: Path | None = None, *, make: bool = True) -> bytes:
    """The key for pseudonyms: of a file, of UMEDFEAT_ID_KEY's file, or the user's own, made on first use (mode 0600).

    Args:
        make: write the user's own key where there is none; else a passing one is used (a dry run writes nothing).

    Raises:
        SetupError: the file is missing or too short, or no key can be made.
    """
    given = path or (Path(os.environ["UMEDFEAT_ID_KEY"]) if os.environ.get("UMEDFEAT_ID_KEY") else None)
    try:
        if given is not None:
            _warn_if_open(given)
            return _checked(given.read_bytes(), given)
        own = default_key_path()
        if not own.is_file():
            if not make:
                return secrets.token_hex(32).encode()
            _make_key(own)
        return _checked(own.read_bytes(), own)
    except OSError as error:
        place = given or default_key_path()
        raise SetupError(f"{place}: no key for pseudonyms ({error.strerror})", remedy=_REMEDY) from error


def _warn_if_open(path: Path) -> None:
    """Who reads the key can test guesses of identifiers against the pseudonyms."""
    if os.name == "posix" and path.stat().st_mode & 0o004:
        log.warning("%s: this key can be read by others on this machine (chmod 600 protects it)", path.name)


def _checked(key: bytes, path: Path) -> bytes:
    if len(key.strip()) < _MIN_KEY_BYTES:
        raise SetupError(
            f"{path}: a key for pseudonyms needs {_MIN_KEY_BYTES} bytes, this has {len(key.strip())}", remedy=_REMEDY
        )
    return key.strip()


def _make_key(path: Path) -> None:
    """Write a new key whole or not at all; of two processes that start together, the first one's counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(secrets.token_hex(32).encode())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def stem_of(name: str) -> str:
    """A relative name without its image suffix ("a/b.nii.gz" → "a/b"); others stay ("1.2.840.7" is a name)."""
    folder, slash, base = name.rpartition("/")
    lowered = base.lower()
    for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if lowered.endswith(suffix) and len(base) > len(suffix):
            return folder + slash + base[: -len(suffix)]
    return name


def content_sha256(files: Iterable[Path]) -> str:
    """Identity of the bytes of some files, cheap enough for slides on a network disk.

    Up to 64 MiB in total every byte is hashed. Above that: the size of each file and 64 blocks of 1 MiB, evenly
    spread over it, the first and the last among them. File names do not matter, their order does.
    """
    paths = list(files)
    sizes = [path.stat().st_size for path in paths]
    digest = hashlib.sha256()
    for path, size in zip(paths, sizes, strict=True):
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as stream:
            if sum(sizes) <= _WHOLE_HASH_BYTES or size <= _HASH_BLOCK:
                while block := stream.read(_HASH_BLOCK):
                    digest.update(block)
                continue
            blocks = max(1, min(64, size // _HASH_BLOCK))
            for k in range(blocks):
                stream.seek((size - _HASH_BLOCK) * k // max(1, blocks - 1))
                digest.update(stream.read(_HASH_BLOCK))
    return digest.hexdigest()
