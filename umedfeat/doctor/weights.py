"""The encoder's weights: at hand, sound, and the pinned ones; and those of the other official models in the cache."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

from umedfeat.doctor.finding import Finding, State, Wish, failed
from umedfeat.encoders.registry import load_chosen
from umedfeat.encoders.weights.download import cached_file, pin_of
from umedfeat.encoders.weights.models import MODELS, OfficialModel
from umedfeat.errors import SetupError, WeightsUnavailable

__all__ = ["cache", "encoder"]

_SECONDS = 5.0


def encoder(wish: Wish) -> Iterator[Finding]:
    """Load the job's encoder; nothing is fetched for that."""
    choice = wish.choice
    name = f"encoder {choice.name}"
    try:
        loaded = load_chosen(replace(choice, offline=True, device=choice.each()[0].device))
    except WeightsUnavailable as error:
        yield failed(name, error) if choice.offline else _to_be_fetched(name, choice.name, error.remedy)
    except SetupError as error:
        yield failed(name, error)
    else:
        digest = loaded.settings.get("weights_sha256", "")
        yield Finding(name, "ok", f"{loaded.dim} values, sha256 {digest or 'none (no weights file)'}")


def cache(wish: Wish) -> Iterator[Finding]:
    """Official weights in the cache, with their checksums."""
    from umedfeat.encoders.weights.checkpoint import file_sha256

    for model in MODELS.values():
        path = cached_file(model)
        if not path.is_file():
            continue
        digest, pin = file_sha256(path), pin_of(model)
        if pin in (None, digest):
            yield Finding(f"weights {model.name}", "ok", f"sha256 {digest}" + ("" if pin else " (no pin yet)"))
        else:
            remedy = f"remove {path.name} and its .sha256 from the cache to fetch it anew, if you trust the change"
            state: State = "fail" if wish.choice.name == model.name and wish.choice.weights is None else "note"
            yield Finding(f"weights {model.name}", state, f"sha256 {digest} is not the pinned {pin}", remedy)


def _to_be_fetched(name: str, encoder: str, remedy: str) -> Finding:
    """The first run fetches what is not in the cache, if somebody answers."""
    model = MODELS.get(encoder)
    if model is None:
        return Finding(
            name, "note", "weights not at hand: the first run tries to fetch them", "run it once with a network"
        )
    if _answering(model) is None:
        return Finding(name, "fail", f"{model.file} is not in the cache, and no server that has it answers", remedy)
    return Finding(name, "note", "the first run fetches the weights", f"`umedfeat weights fetch {encoder}` does it now")


def _answering(model: OfficialModel) -> str | None:
    """The first address of a model's file that answers; nothing is fetched."""
    for url in model.urls:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_SECONDS):
                return url
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 405:  # a server that answers, but not to this kind of question
                return url
        except OSError:
            continue
    return None
