"""``umedfeat.predict``: a saved probe on new inputs, be they features or images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import h5py

from umedfeat.errors import OutputError, SetupError
from umedfeat.extraction.alike import features_like, slides_beside, slides_place
from umedfeat.extraction.settings import RunSettings
from umedfeat.naming import Pseudonyms
from umedfeat.prediction.apply import OnRows, Predicted, apply_probe
from umedfeat.prediction.saved import SavedProbe
from umedfeat.report.prediction_files import PATIENT_COLUMNS
from umedfeat.report.validation_files import ESTIMATE_COLUMNS
from umedfeat.terminal.progress import Progress

__all__ = ["claim", "place_of_shard", "predict", "table_at"]

#: What is written beside the table.
_BESIDE = {
    "patients.csv": ",".join(PATIENT_COLUMNS),
    "validation.csv": ",".join(ESTIMATE_COLUMNS),
    "index.html": 'name="generator" content="umedfeat',
}
#: Suffixes of files: a folder is hardly called so.
_OTHER_FILES = frozenset({".tsv", ".txt", ".json", ".html", ".xlsx", ".parquet", ".h5", ".safetensors"})


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
        features: feature file that new images are embedded into; it is resumed where it exists, and refused where it
            holds other items. A slide encoder's vectors are written beside it ("feats.slides.h5").
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
            run=replace(run or RunSettings(), alone=True),
            pseudonyms=pseudonyms,
            progress=progress,
        )
    else:
        path = slides_beside(path, slides_place(Path(features or path)), probe.header, device)
    return apply_probe(probe, path, on_rows)


def table_at(out: Path) -> Path:
    """The table of predictions: ``out`` where it is called .csv, else ``predictions.csv`` in the folder ``out``.

    Raises:
        OutputError: neither a .csv nor a folder, or a name under which something else is written beside the table.
    """
    if out.is_dir():
        return out / "predictions.csv"
    if out.suffix.lower() == ".csv":
        if out.name.lower() in _BESIDE:
            raise OutputError(f"{out}: {out.name} holds something else here", remedy="another name, or a folder")
        return out
    if out.suffix.lower() in _OTHER_FILES or out.exists() or out.name == "-":
        fault = f"{out}: predictions are written as CSV"
        raise OutputError(fault, remedy="name a .csv file or a folder (--json writes to stdout)")
    return out / "predictions.csv"


def claim(table: Path, given: Iterable[Path | str | None]) -> None:
    """Make the folder of a table, unless that or what stands beside it would write over what is read, or what others
    keep there.

    Args:
        table: of predictions. given: files that are read.

    Raises:
        OutputError: naming the file, or the folder cannot be made.
    """
    written = [table.resolve(), *(table.with_name(name).resolve() for name in _BESIDE)]
    for read in (Path(each) for each in given if each is not None):
        if read.resolve() in written:
            raise OutputError(f"{read}: is read, and would be written over", remedy="choose another --out")
    for name, mark in _BESIDE.items():
        if not _is_ours(place := table.with_name(name), mark):
            fault = f"{place}: is not of an earlier prediction, and would be written over"
            raise OutputError(fault, remedy="choose another --out, such as a folder of its own")
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fault = f"{table.parent}: cannot be made ({error.strerror})"
        raise OutputError(fault, remedy="choose another --out") from error


def _is_ours(path: Path, mark: str) -> bool:
    """Nothing there, an empty file, or one that begins as ours do."""
    if not path.is_file():
        return True
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
    except OSError:  # who may not read it has not written it
        return False
    return not head or mark.encode() in head


def place_of_shard(out: Path, run: RunSettings) -> Path:
    """Where a run writes its table: ``out``, or a place of its own for a shard, so that shards on many machines do not
    write over each other (``predict/shards/3-of-16/predictions.csv``)."""
    if run.shard is None:
        return out
    number, total = run.shard
    return out.parent / "shards" / f"{number}-of-{total}" / out.name
