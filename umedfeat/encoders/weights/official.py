"""The official weights by name: fetched, verified, converted. Torch comes only with published values to compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umedfeat.encoders.weights.checkpoint import read_checkpoint
from umedfeat.encoders.weights.download import ensure_weights, verify_pin
from umedfeat.encoders.weights.models import GOLDEN_IMAGE, MODELS, OfficialModel
from umedfeat.encoders.weights.safetensors_io import write_safetensors
from umedfeat.errors import CheckpointRefused, SetupError

__all__ = ["VerifiedWeights", "convert_weights", "fetch_weights", "official_model", "verify_weights"]

#: Of the published values in fp32.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class VerifiedWeights:
    """What a sound weights file is.

    Attributes:
        file: its name. sha256: of its bytes.
        architecture: in words. tensors: how many. generation: of the official files; "own" of others.
        golden: largest difference to the authors' published values; None where it was not asked for.
    """

    file: str
    sha256: str
    architecture: str
    tensors: int
    generation: str
    golden: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For machines and people."""
        told = {name: value for name, value in vars(self).items() if value is not None}
        return told if self.golden is None else told | {"golden": f"largest difference {self.golden:.2e}"}


def official_model(name: str) -> OfficialModel:
    """An official model by its name.

    Raises:
        SetupError: there is none.
    """
    if name not in MODELS:
        raise SetupError(f"no official model {name!r}", remedy=f"known: {', '.join(MODELS)}")
    return MODELS[name]


def fetch_weights(name: str, *, offline: bool = False) -> Path:
    """The file of an official model in the cache, fetched if it is not there (resumes; pins its checksum on first use).

    Raises:
        SetupError: no such model.
        WeightsUnavailable: it cannot be had; the message tells three ways out.
        CheckpointRefused: the cached file is not the one that was used first.
    """
    return ensure_weights(official_model(name), offline=offline)


def verify_weights(what: Path | str, *, golden_image: Path | str | None = None) -> VerifiedWeights:
    """Check a file, or an official model of the cache and its pin: structure, architecture, checksum; execute nothing.

    Args:
        what: path, or the name of an official model.
        golden_image: the authors' example image: the published values of UMedPT are recomputed from it.

    Raises:
        CheckpointRefused: unsafe, damaged, or not what was used first.
        WeightsUnavailable: not in the cache. SetupError: other values than the published ones.
    """
    path = _path_of(str(what))
    checkpoint = read_checkpoint(path)
    config = checkpoint.config
    return VerifiedWeights(
        path.name,
        checkpoint.sha256,
        f"{config.variant or config.family} ({config.dim} values)",
        len(checkpoint.arrays),
        config.generation or "own",
        None if golden_image is None else _golden(path, Path(golden_image)),
    )


def convert_weights(source: Path | str, target: Path | str) -> Path:
    """Write a weights file as safetensors, with the architecture in its metadata.

    Raises:
        SetupError: ``target`` does not end in ``.safetensors``. CheckpointRefused: see ``verify_weights``.
    """
    out = Path(target)
    if out.suffix != ".safetensors":
        raise SetupError(f"{out.name} must end in .safetensors", remedy=f"{out.stem}.safetensors")
    write_safetensors(read_checkpoint(Path(source)), out)
    return out


def _path_of(what: str) -> Path:
    if what not in MODELS:
        return Path(what)
    path = ensure_weights(MODELS[what], offline=True)
    verify_pin(MODELS[what], path)
    return path


def _golden(path: Path, image: Path) -> float:
    from umedfeat.encoders.weights.golden import golden_difference

    if not image.is_file():
        raise CheckpointRefused(f"{image}: no such image", remedy=f"fetch {GOLDEN_IMAGE}")
    difference = golden_difference(path, image)
    if difference > _TOLERANCE:
        raise SetupError(
            f"{path.name}: differs from the published values by {difference:.2e}",
            remedy="this is another file or another image",
        )
    return difference
