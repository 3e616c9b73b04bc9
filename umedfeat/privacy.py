"""Keyed pseudonyms: patient and study identifiers leave the reader only as HMAC-SHA256."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

__all__ = ["Pseudonyms"]


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
