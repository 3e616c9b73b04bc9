"""Nearest neighbours of a feature file against all pairs computed at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from store_cases import header, item, write
from study_cases import write_features

from umedfeat.errors import SetupError
from umedfeat.prediction import similar
from umedfeat.prediction.similar import nearest, row_vector
from umedfeat.store import FeatureFile


@pytest.fixture
def feats(tmp_path: Path) -> Path:
    items = [item(f"item{k:02}", rows=k % 4, seed=k) for k in range(12)]
    return write(tmp_path / "feats.h5", items, settings=header())


def _expected(rows: np.ndarray, mean: np.ndarray, query: np.ndarray) -> np.ndarray:
    centred, target = rows - mean, query - mean
    return centred @ target / np.linalg.norm(centred, axis=1) / np.linalg.norm(target)


@pytest.mark.parametrize("block", [1, 5, 1000])
def test_rows_are_ranked_exactly_in_any_blocks(feats: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "_BLOCK_ROWS", block)
    with FeatureFile(feats) as file:
        rows = file.features().astype(np.float64)
        query = row_vector(file, "item07", 1)
        cosines = _expected(rows, rows.mean(axis=0), query.astype(np.float64))
        found = nearest(file, query, unit="tile", top=6)
        order = np.argsort(-cosines, kind="stable")[:6]
        assert (found[0].item, found[0].row, round(found[0].cosine, 5)) == ("item07", 1, 1.0)
        assert [file.rows(match.item).start + match.row for match in found] == order.tolist()
        np.testing.assert_allclose([match.cosine for match in found], cosines[order], atol=1e-5)
        for match in found:
            assert (match.x, match.y) == tuple(file.coords(match.item)[match.row])


@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("unit", ["item", "tile"])
def test_features_of_any_scale_are_ranked(feats: Path, unit: str, scale: float) -> None:
    with FeatureFile(feats) as file:
        usual = nearest(file, row_vector(file, "item07"), unit=unit, top=6)
        rows = {name: file.features(name) * np.float32(scale) for name in file.ids if len(file.features(name))}
    path = write_features(feats.with_name("odd.h5"), list(rows.values()), list(rows))
    with FeatureFile(path) as file:
        found = nearest(file, row_vector(file, "item07"), unit=unit, top=6)
    assert [(match.item, match.row) for match in found] == [(match.item, match.row) for match in usual]
    np.testing.assert_allclose([match.cosine for match in found], [match.cosine for match in usual], atol=1e-5)


def test_items_without_rows_and_left_out_ones_are_never_found(feats: Path) -> None:
    with FeatureFile(feats) as file:
        own = np.arange(len(file)) == file.find("item07")
        found = nearest(file, row_vector(file, "item07"), top=50, without=own)
        counts = file.items["count"]
        assert {match.item for match in found} == {n for n, c in zip(file.ids, counts, strict=True) if c} - {"item07"}
        assert all(match.row == -1 for match in found)
        with pytest.raises(SetupError, match="no features"):
            row_vector(file, "item04")
        with pytest.raises(SetupError, match="no row 9"):
            row_vector(file, "item07", 9)
        with pytest.raises(SetupError, match="does not fit"):
            nearest(file, np.ones(3, np.float32))
