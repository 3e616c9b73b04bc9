"""``umedfeat.predict``: a saved probe on new inputs, be they features or images."""

from __future__ import annotations

from pathlib import Path

import h5py

from umedfeat.errors import SetupError
from umedfeat.extraction.alike import features_like, slides_beside, slides_place
from umedfeat.extraction.settings import RunSettings
from umedfeat.naming import Pseudonyms
from umedfeat.prediction.apply import OnRows, Predicted, apply_probe
from umedfeat.prediction.saved import SavedProbe
from umedfeat.terminal.progress import Progress

__all__ = ["place_of_shard", "predict", "table_at"]


def predict(
    inputs: Path | str,
    model: SavedProbe | Path | str,
    *,
    features: Path | str | None = None,
    weights: Path | None = None,
    device: str = "auto",
    run: RunSettings | None = None,
    pseudonyms: Pseudonyms | None = None,
    progress: Progress | None = None,
    on_rows: OnRows | None = None,
) -> Predicted:
    """Apply a saved probe to new inputs.

    Args:
        inputs: a feature file made with the probe's encoder and policy, or images (a file, a folder, a manifest), which
            are embedded with them first. A probe of a slide encoder also takes the tiles that this one takes.
        model: what ``umedfeat probe`` saved (``probe/model.safetensors``), or its path.
        features: feature file that new images are embedded into; it is resumed where it exists. A slide encoder's
            vectors are written beside it ("feats.slides.h5").
        weights, device, run, pseudonyms, progress: for new images; see ``umedfeat.extract``.
        on_rows: told how many rows were predicted, for a progress bar.

    Returns:
        A probability per class and item, and which items are unlike the training data.

    Raises:
        SetupError: the model or the inputs cannot be used, or the features were made with other settings.
        CohortError: there is nothing to predict.

    Example:
        >>> found = umedfeat.predict("new.h5", "probe/model.safetensors")  # doctest: +SKIP
        >>> found.values.shape  # (items, classes)  # doctest: +SKIP
    """
    probe = model if isinstance(model, SavedProbe) else SavedProbe.load(model)
    path = Path(inputs)
    if not (path.is_file() and h5py.is_hdf5(path)):
        if features is None:
            raise SetupError(f"{path}: images need a place for their features", remedy="name one with features=")
        path = features_like(
            path,
            features,
            probe.header,
            weights=weights,
            device=device,
            run=run,
            pseudonyms=pseudonyms,
            progress=progress,
        )
    else:
        path = slides_beside(path, slides_place(Path(features or path)), probe.header, device)
    return apply_probe(probe, path, on_rows)


def table_at(out: Path) -> Path:
    """The table of predictions: ``out``, or ``predictions.csv`` in it where it is a folder or has no suffix."""
    return out if out.suffix and not out.is_dir() else out / "predictions.csv"


def place_of_shard(out: Path, run: RunSettings) -> Path:
    """Where a run writes its table: ``out``, or a place of its own for a shard, so that shards on many machines do not
    write over each other (``predict/shards/3-of-16/predictions.csv``)."""
    if run.shard is None:
        return out
    number, total = run.shard
    return out.parent / "shards" / f"{number}-of-{total}" / out.name
