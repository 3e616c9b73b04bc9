"""A scikit-learn transformer: pictures or paths in, vectors out, as a step of a Pipeline."""

from __future__ import annotations

import csv
import secrets
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from umedfeat.arrays import Floats32
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.registry import load_chosen
from umedfeat.encoders.transform import Transform
from umedfeat.errors import SetupError
from umedfeat.extraction.run import extract
from umedfeat.extraction.settings import RunSettings
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.store import FeatureFile

if TYPE_CHECKING:
    from umedfeat.contract import Encoder

__all__ = ["UmedfeatExtractor"]


class UmedfeatExtractor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embeds pictures or files with a frozen encoder; nothing is learned.

    ``X`` is either an array (n, H, W) or (n, H, W, 3) or a sequence of such pictures of any sizes, uint8 or float in
    [0, 1], which are embedded in this process; or a sequence (or one column) of paths of slides, volumes and images,
    which are embedded as ``umedfeat.extract`` does: one vector per path, the mean over its tiles or slices. Paths are
    read by processes of their own: in a script, call it under ``if __name__ == "__main__":``.

    Clones, pickles and joblib's workers carry the settings alone; each loads the encoder on first use.

    Args:
        encoder: one of ``umedfeat.list_encoders()``, "timm:<name>", or "hf-hub:<owner>/<name>".
        weights: a weights file. device, precision: see ``umedfeat.load_encoder``.
        fit_image: of pictures: how they become square, "pad", "squash" or "crop".
        policy: of paths: how they become RGB. workers: of paths: reading processes.
        batch_size: pictures per call of the encoder.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> model = make_pipeline(UmedfeatExtractor("efficientnet-lite0"), LogisticRegression())
        >>> model.fit(images, labels)  # doctest: +SKIP
    """

    def __init__(
        self,
        encoder: str = "umedpt",
        *,
        weights: Path | str | None = None,
        device: str = "auto",
        precision: str = "auto",
        fit_image: str = "pad",
        policy: Policy | None = None,
        workers: int | None = None,
        batch_size: int = 32,
    ) -> None:
        self.encoder = encoder
        self.weights = weights
        self.device = device
        self.precision = precision
        self.fit_image = fit_image
        self.policy = policy
        self.workers = workers
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any = None) -> UmedfeatExtractor:
        """Learns nothing."""
        return self

    def transform(self, X: Any) -> Floats32:
        """(n, D) float32, one row per picture or path, in their order.

        Raises:
            SetupError: ``X`` is something else, or a file cannot be embedded (the message names it).
        """
        rows = _rows(X)
        if not rows:
            raise SetupError("no pictures and no paths were given", remedy="at least one")
        if all(isinstance(row, str | Path) for row in rows):
            return self._of_paths([Path(row) for row in rows])
        return self._of_pictures(rows)

    def _of_pictures(self, pictures: Sequence[Any]) -> Floats32:
        import torch

        at_once = RunSettings(batch_size=self.batch_size).batch_size or 1
        encoder = self._loaded()
        square = Transform(encoder.image_size, self.fit_image)
        vectors = [
            encoder(torch.stack([square(picture) for picture in pictures[first : first + at_once]]))
            for first in range(0, len(pictures), at_once)
        ]
        return np.asarray(torch.cat(vectors).numpy(), np.float32)

    def _of_paths(self, paths: Sequence[Path]) -> Floats32:
        """Embed each path once; the patients' pseudonyms of this file are nobody's business."""
        names = {path: f"{number:08d}" for number, path in enumerate(dict.fromkeys(paths))}
        missing = [str(path) for path in names if not path.exists()]
        if missing:
            raise SetupError(f"{missing[0]}: does not exist ({len(missing)} such paths)", remedy="look at the paths")
        with tempfile.TemporaryDirectory(prefix="umedfeat-") as folder:
            manifest = Path(folder, "paths.csv")
            with manifest.open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows(
                    [("path", "id"), *((path.absolute(), name) for path, name in names.items())]
                )
            summary = extract(
                manifest,
                Path(folder, "features.h5"),
                encoder=self._choice(),
                policy=self.policy,
                run=RunSettings(workers=self.workers),
                pseudonyms=Pseudonyms(secrets.token_bytes(32)),
            )
            if summary.failures:
                first = summary.failures[0]
                message = f"{len(summary.failures)} of {len(names)} paths were not embedded: {first.message}"
                raise SetupError(message, remedy=first.remedy)
            with FeatureFile(summary.out) as file:
                found = dict(zip(file.ids, file.embeddings, strict=True))
        lacking = [str(path) for path, name in names.items() if name not in found]
        if lacking:
            message = f"{lacking[0]}: is no single image, slide or volume ({len(lacking)} such paths)"
            raise SetupError(message, remedy="one file each")
        return np.stack([found[names[path]] for path in paths])

    def _choice(self) -> EncoderChoice:
        weights = None if self.weights is None else Path(self.weights)
        return EncoderChoice(self.encoder, weights, self.device, self.precision)

    def _loaded(self) -> Encoder:
        """The encoder of the present settings, loaded once."""
        choice = self._choice()
        kept: tuple[EncoderChoice, Encoder] | None = self.__dict__.get("_kept")
        if kept is None or kept[0] != choice:
            kept = self._kept = choice, load_chosen(choice)
        return kept[1]

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """("umedfeat0", "umedfeat1", …), as many as the encoder's vector is long."""
        return np.array([f"umedfeat{number}" for number in range(self._loaded().dim)], dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_kept", None)
        return state

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags


def _rows(X: Any) -> list[Any]:
    """The pictures or paths of an array, a column of a table, or any sequence."""
    if isinstance(X, str | Path):
        raise SetupError("one path was given, not a sequence of them", remedy=f"[{str(X)!r}]")
    array = np.asarray(X) if hasattr(X, "to_numpy") or isinstance(X, np.ndarray) else None
    if array is not None and array.dtype.kind in "OU":
        return [str(value) if isinstance(value, str) else value for value in array.reshape(-1)]
    if array is not None and array.ndim not in (3, 4):
        message = f"an array of shape {array.shape} holds no pictures"
        raise SetupError(message, remedy="(n, H, W), (n, H, W, 3), a list of pictures, or paths")
    if not isinstance(X, Iterable):
        raise SetupError(f"{type(X).__name__} holds no pictures", remedy="an array or a list of pictures, or paths")
    rows: Iterable[Any] = X if array is None else array
    return list(rows)
