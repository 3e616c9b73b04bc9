"""A saved probe on a feature file: a probability per item, in flat memory however many rows the file holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from umedfeat.arrays import Bools, Floats, Floats32, Ints
from umedfeat.errors import CohortError, SetupError
from umedfeat.fewshot.cohort.table import FeatureTable, read_table
from umedfeat.fewshot.parallel import in_order
from umedfeat.machine import usable_cores
from umedfeat.prediction.novelty import FALSE_ALARMS
from umedfeat.prediction.saved import SavedProbe
from umedfeat.store import FeatureFile, Header

__all__ = ["Predicted", "apply_probe", "refuse_other", "region_attention", "region_scores"]

_BLOCK_ROWS = 16_384
#: Called with the number of rows just done.
OnRows = Callable[[int], None]


@dataclass(frozen=True)
class Predicted:
    """What a saved probe says about the items of a feature file that have rows.

    Attributes:
        probe, table: what was applied to what; every array has one entry per item of the table.
        values: (I, K) probabilities, or (I, 1) values.
        usual: (I,) share of training patients at least as far from the training data; NaN where it cannot be told.
        flagged: (I,) unlike the training data, with ``FALSE_ALARMS`` false alarms.
    """

    probe: SavedProbe
    table: FeatureTable
    values: Floats
    usual: Floats
    flagged: Bools

    @property
    def best(self) -> Ints:
        """(I,) column of the most probable class, of two classes the second above the probe's threshold (the only
        column of values)."""
        if self.probe.task == "binary":
            return np.asarray(self.values[:, 1] > self.probe.threshold, dtype=np.intp)
        return np.asarray(self.values.argmax(axis=1))

    @property
    def confidence(self) -> Floats:
        """(I,) probability of the most probable class; of labels the smallest distance from 1/2, doubled."""
        if self.probe.task == "multilabel":
            return np.asarray(np.abs(2 * self.values - 1).min(axis=1))
        return np.asarray(self.values.max(axis=1)) if self.probe.classes else np.full(len(self.values), np.nan)

    @property
    def order(self) -> Ints:
        """(I,) items in the order in which they deserve a look: the least certain first; values from the largest."""
        key = self.confidence if self.probe.classes else -self.values[:, 0]
        return np.argsort(key, kind="stable")

    def said(self, item: int) -> str:
        """The prediction in words: a class, the labels that are present, or a number."""
        if not self.probe.classes:
            return f"{self.values[item, 0]:.6g}"
        if self.probe.task == "multilabel":
            return "|".join(name for name, p in zip(self.probe.classes, self.values[item], strict=True) if p >= 0.5)
        return self.probe.classes[int(self.best[item])]


def apply_probe(probe: SavedProbe, path: Path, on_rows: OnRows | None = None) -> Predicted:
    """Predict every item of a feature file.

    Args:
        on_rows: told how many rows were done, for a progress bar.

    Raises:
        SetupError: not a feature file, or its features were made with other settings than the probe's.
        CohortError: it holds no rows, or features that are no numbers.
    """
    with FeatureFile(path) as file:
        refuse_other(probe.header, file.header, path.name)
    table = read_table(path)
    usual = _usual(probe, table)
    values = _values(probe, table, on_rows)
    return Predicted(probe, table, values, usual, usual <= FALSE_ALARMS)


def _values(probe: SavedProbe, table: FeatureTable, on_rows: OnRows | None) -> Floats:
    if probe.classifier == "abmil":
        return _over_bags(probe, table, on_rows)
    if probe.unit == "tile":
        return _over_tiles(probe, table, on_rows)
    if probe.unit == "patient":
        return probe.predict(_by_patient(table.pooled(np.arange(len(table.ids)), probe.pool), table))
    return np.concatenate([probe.predict(rows) for rows in _pooled_blocks(probe, table)])


def _usual(probe: SavedProbe, table: FeatureTable) -> Floats:
    if probe.novelty is None:
        return np.full(len(table.ids), np.nan)
    return np.concatenate([probe.novelty.p_values(rows) for rows in _pooled_blocks(probe, table)])


def _pooled_blocks(probe: SavedProbe, table: FeatureTable) -> Iterator[Floats32]:
    """One row an item, some thousand items at a time."""
    for first in range(0, len(table.ids), _BLOCK_ROWS):
        rows = table.pooled(np.arange(first, min(len(table.ids), first + _BLOCK_ROWS)), probe.pool)
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            fault = f"{table.path.name}: {table.ids[first + bad[0]]}: its features hold NaN or infinite values"
            raise CohortError(fault, remedy="umedfeat verify tells more; extract this input again")
        yield rows


def _over_tiles(probe: SavedProbe, table: FeatureTable, on_rows: OnRows | None) -> Floats:
    """Mean of the predictions of each item's rows."""
    with FeatureFile(table.path) as file:
        sums = np.zeros((len(file), probe.form.width))
        features, owners = file.dataset("features"), file.dataset("tiles/item")

        def predicted(part: slice) -> tuple[Ints, Floats]:
            return owners[part], probe.predict(features[part])

        for owner, values in in_order(predicted, _blocks(file.n_rows), usable_cores()):
            _add_runs(sums, owner, values)
            if on_rows is not None:
                on_rows(len(owner))
    return sums[table.number] / table.count[:, None]


def _blocks(rows: int) -> list[slice]:
    return [slice(first, min(rows, first + _BLOCK_ROWS)) for first in range(0, rows, _BLOCK_ROWS)]


def _over_bags(probe: SavedProbe, table: FeatureTable, on_rows: OnRows | None) -> Floats:
    """Attention over the rows of each item."""
    with FeatureFile(table.path) as file:
        features, values = file.dataset("features"), np.empty((len(table.ids), probe.form.width))
        for place, number in enumerate(table.number.tolist()):
            rows = file.rows(number)
            starts = range(rows.start, rows.stop, _BLOCK_ROWS)
            values[place] = probe.predict_bag(features[s : min(rows.stop, s + _BLOCK_ROWS)] for s in starts)
            if on_rows is not None:
                on_rows(rows.stop - rows.start)
        return values


def _add_runs(sums: Floats, owners: Ints, values: Floats) -> None:
    """Add rows to the items that own them; rows of an item are neighbours, so each run is one sum."""
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    sums[owners[starts]] += np.add.reduceat(values, starts, axis=0)


def _by_patient(pooled: Floats32, table: FeatureTable) -> Floats32:
    """Every item gets the mean of its patient's items; an item without a patient stands for itself."""
    names = np.where(table.patients == "", table.ids, table.patients)
    _, patient = np.unique(names, return_inverse=True)
    sums = np.zeros((int(patient.max()) + 1, pooled.shape[1]))
    np.add.at(sums, patient, pooled)
    return (sums / np.bincount(patient)[:, None])[patient].astype(np.float32)


def region_scores(probe: SavedProbe, file: FeatureFile, item: str, column: int) -> Floats:
    """(n,) probability of one class for each region of an item.

    The classifier of whole items is applied to single regions, which lie in the same space: it tells where the evidence
    is, not how probable the class is there.

    Raises:
        CohortError: the probe was trained on means with standard deviations, which a single region does not have.
    """
    if probe.pool == "mean+std":
        raise CohortError(
            "this probe was trained with --pool mean+std: a single region has no such features",
            remedy="train it with --pool mean",
        )
    return np.asarray(probe.predict(file.features(item).astype(np.float32))[:, column])


def region_attention(probe: SavedProbe, file: FeatureFile, item: str) -> Floats | None:
    """(n,) how much each region of an item counts, 1 for the one that counts most; None but for "abmil" probes."""
    return None if probe.classifier != "abmil" else probe.attention(file.features(item).astype(np.float32))


def refuse_other(wanted: Header, found: Header, what: str) -> None:
    """Features of different settings do not compare; whether tokens stand beside them makes no difference.

    Raises:
        SetupError: the fingerprints differ; the message shows what does.
    """
    wanted, found = wanted.of_features, found.of_features
    if wanted.fingerprint == found.fingerprint:
        return
    differences = wanted.differences(found)
    more = f" and {len(differences) - 5} more" if len(differences) > 5 else ""
    raise SetupError(
        f"{what}: made with other settings: {'; '.join(differences[:5])}{more}",
        remedy="extract them with the same encoder, weights and options",
    )
