"""Whose key: features whose patients stand under two keys are never put together."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from umedfeat.errors import OutputError
from umedfeat.store.read import UNKNOWN_KEY, FeatureFile

__all__ = ["one_key", "refuse_other_key"]

log = logging.getLogger("umedfeat")


def one_key(named: Iterable[tuple[str, str]]) -> str:
    """The key check that some files share; "" where none of them holds pseudonyms.

    Args:
        named: (what to call it, key check) of each; "" holds no pseudonyms.

    Raises:
        OutputError: two keys: one patient would have two pseudonyms, and might stand on both sides of a split.
    """
    known: dict[str, str] = {}
    unknown = ""
    for name, check in named:
        if check == UNKNOWN_KEY:
            unknown = name
        elif check:
            known.setdefault(check, name)
    if len(known) > 1:
        (one, first), (other, second) = list(known.items())[:2]
        raise OutputError(
            f"{first} and {second}: patients stand under two keys ({one} and {other}); "
            "one patient would have two pseudonyms",
            remedy="extract with one key everywhere: --id-key FILE (`umedfeat key check FILE` tells which key it is)",
        )
    if unknown and known:
        log.warning("%s: does not tell the key of its pseudonyms; make sure that it is the same one", unknown)
    return next(iter(known), UNKNOWN_KEY if unknown else "")


def refuse_other_key(check: str, paths: Sequence[Path]) -> None:
    """Were these feature files made with the key of a key check?

    Raises:
        OutputError: one was not, or is damaged.
    """
    for path in paths:
        with FeatureFile(path) as file:
            one_key([("this key", check), (path.name, file.key_check)])
