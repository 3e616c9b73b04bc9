"""Files of the Hugging Face hub, fetched with its own client: its cache, its proxies, and the user's own token.

The token is never read, passed on or logged here: the client takes it from ``HF_TOKEN`` or from ``hf auth login``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from umedfeat.errors import SetupError, WeightsUnavailable

__all__ = ["Repository", "fetch_first"]

log = logging.getLogger("umedfeat")

_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_BY_HAND = "fetch it where there is a network and give --weights FILE, or use --encoder umedfeat-open"


class Repository(NamedTuple):
    """A model repository of the hub: "owner/name", and a branch, tag or commit; None: the main branch."""

    name: str
    revision: str | None = None

    @classmethod
    def of(cls, text: str) -> Repository:
        """ "owner/name" or "owner/name@revision".

        Raises:
            SetupError: something else.
        """
        name, _, revision = text.partition("@")
        if not _NAME.fullmatch(name):
            raise SetupError(
                f"{text!r} is no model of the hub", remedy="hf-hub:owner/name, or hf-hub:owner/name@revision"
            )
        return cls(name, revision or None)

    @property
    def url(self) -> str:
        """Its page."""
        return f"https://huggingface.co/{self.name}"


def fetch_first(repository: Repository, names: Sequence[str], *, offline: bool, notice: str = "") -> Path:
    """The first of some files that the repository has: from the client's cache, else fetched.

    Args:
        names: in order of preference.
        notice: told before anything is fetched (a licence).

    Raises:
        WeightsUnavailable: none of them can be had; the message says why (terms to be accepted, no network, no file).
    """
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        cached = try_to_load_from_cache(repository.name, name, revision=repository.revision)
        if isinstance(cached, str):
            return Path(cached)
    wanted = " or ".join(names)
    if offline:
        message = f"{repository.name}: no {wanted} in the cache, and the network is not used (offline)"
        raise WeightsUnavailable(message, remedy=_BY_HAND)
    if notice:
        log.warning("fetching %s from %s. %s", wanted, repository.url, notice)
    for name in names:
        found = _fetched(repository, name)
        if found is not None:
            return found
    raise WeightsUnavailable(f"{repository.url} holds no {wanted}", remedy="give --weights FILE")


def _fetched(repository: Repository, name: str) -> Path | None:
    """A file, or None where the repository does not hold it."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(hf_hub_download(repository.name, name, revision=repository.revision))
    except GatedRepoError as error:
        message = f"{repository.name}: its publisher wants the terms accepted first"
        remedy = f"accept them at {repository.url}, then `hf auth login` or set HF_TOKEN to your own token"
        raise WeightsUnavailable(message, remedy=remedy) from error
    except RevisionNotFoundError as error:
        message = f"{repository.name} has no revision {repository.revision!r}"
        raise WeightsUnavailable(message, remedy=f"see {repository.url}/commits") from error
    except RepositoryNotFoundError as error:
        message = f"no model {repository.name!r} on the hub, or it is private"
        raise WeightsUnavailable(
            message, remedy="owner/name, and your own token (HF_TOKEN) if it is private"
        ) from error
    except LocalEntryNotFoundError as error:  # the client's word for: not cached, and the network is not there
        raise WeightsUnavailable(f"{repository.url} cannot be reached", remedy=_BY_HAND) from error
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError) as error:
        message = f"{repository.url}: {name} cannot be fetched ({type(error).__name__})"
        raise WeightsUnavailable(message, remedy=_BY_HAND) from error
