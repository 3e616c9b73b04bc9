"""The transformer of scikit-learn: a Pipeline of pictures or paths; in scripts, notebooks and threads."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from umedfeat import FeatureFile, UmedfeatExtractor
from umedfeat.errors import SetupError

LITE = "efficientnet-lite0"


def pictures(count: int = 4) -> npt.NDArray[np.uint8]:
    generator = np.random.default_rng(0)
    dark = np.arange(count)[:, None, None, None] % 2 * 150
    return (generator.integers(0, 100, (count, 40, 50, 3)) + dark).astype(np.uint8)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Pictures of the same name in folders of their own."""
    names = []
    for number, picture in enumerate(pictures()):
        (tmp_path / str(number)).mkdir()
        names.append(str(tmp_path / str(number) / "image.png"))
        Image.fromarray(picture).save(names[-1])
    return names


def test_pictures_and_their_files_have_the_same_vectors_in_the_same_order(paths: list[str]) -> None:
    extractor = UmedfeatExtractor(LITE, device="cpu", workers=1, batch_size=3)
    vectors = extractor.transform(pictures())
    assert vectors.shape == (4, 1280)
    assert vectors.dtype == np.float32
    asked = [paths[2], paths[0], paths[2]]
    assert np.array_equal(extractor.transform(np.array(asked, dtype=object)[:, None]), vectors[[2, 0, 2]])
    ragged = [pictures()[0], pictures()[1][:30] / 255.0]
    assert np.array_equal(extractor.transform(ragged)[0], vectors[0])
    assert list(extractor.get_feature_names_out()[[0, -1]]) == ["umedfeat0", "umedfeat1279"]


def test_a_pipeline_clones_and_pickles() -> None:
    model = make_pipeline(UmedfeatExtractor(LITE, device="cpu"), LogisticRegression())
    labels = ["dark", "bright"] * 2
    model.fit(pictures(), labels)
    again = pickle.loads(pickle.dumps(model))
    assert list(again.predict(pictures())) == labels
    assert len(pickle.dumps(model[0])) < 2000  # settings, not the network
    copy = clone(model[0]).set_params(fit_image="crop")
    assert copy.get_params()["encoder"] == LITE
    assert not np.array_equal(copy.transform(pictures()), model[0].transform(pictures()))


def test_it_keeps_scikit_learns_conventions() -> None:
    """All but those that feed it tables of numbers, which are no pictures: those are told so."""
    checks = check_estimator(UmedfeatExtractor(LITE, device="cpu"), on_fail=None, on_skip=None)
    faults = {str(check["check_name"]): str(check["exception"]) for check in checks if check["status"] == "failed"}
    faults.pop("check_estimator_sparse_tag", "")  # fit looks at nothing
    assert {name: text for name, text in faults.items() if "holds no pictures" not in text} == {}
    assert sum(check["status"] == "passed" for check in checks) >= 15


@pytest.mark.filterwarnings("ignore:--encoder random")
def test_settings_are_searched_like_any_others() -> None:
    model = Pipeline([("embed", UmedfeatExtractor("random", device="cpu")), ("classify", LogisticRegression())])
    grid = {"embed__fit_image": ["pad", "crop"], "classify__C": [0.1, 1.0]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(pictures(8), ["dark", "bright"] * 4)
    assert search.best_score_ == 1.0 and len(search.cv_results_["params"]) == 4


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("one.png", "not a sequence"),
        (np.zeros((3, 4)), "holds no pictures"),
        ([], "no pictures"),
        (np.full((1, 8, 8), 300.0), "takes pictures"),
        (None, "NoneType holds no pictures"),
        ([1, 2], "takes pictures, not int"),
        ([torch.zeros(3, 8, 8)], "takes pictures, not Tensor"),
        (["a.png", np.zeros((8, 8, 3), np.uint8)], "takes pictures, not str"),
        (["/nowhere/a.png"], r"/nowhere/a\.png: does not exist"),
    ],
)
def test_what_is_no_picture_is_told(wrong: object, told: str) -> None:
    with pytest.raises(SetupError, match=told):
        UmedfeatExtractor(LITE, device="cpu").transform(wrong)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"fit_image": "stretch"}, "fit 'stretch' is not legal"),
        ({"batch_size": 0}, "batch_size 0 is not legal"),
        ({"batch_size": 2.5}, "batch_size 2.5 is not legal"),
        ({"weights": "own.safetensors"}, "own.safetensors: efficientnet-lite0 brings its own weights"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(SetupError, match=told):
        UmedfeatExtractor(LITE, device="cpu", **wrong).transform(pictures(1))


def test_a_file_that_cannot_be_embedded_is_named(paths: list[str]) -> None:
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes()[:300])
    with pytest.raises(SetupError, match="1 of 4 paths were not embedded"):
        UmedfeatExtractor(LITE, device="cpu", workers=1).transform(paths)


SCRIPT = """
import sys
from umedfeat import RunSettings, extract
extract(sys.argv[1], sys.argv[2], encoder="efficientnet-lite0", run=RunSettings(workers=1))
"""


def test_a_script_without_a_main_guard_is_told_so(paths: list[str], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script, tmp_path, tmp_path / "feats.h5"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 1
    assert run.stderr.count("Traceback") == 1
    assert "if __name__ == '__main__':" in run.stderr


def test_where_there_is_no_script_nothing_is_wrong(paths: list[str], tmp_path: Path) -> None:
    """As in a notebook: the main module has no file."""
    command = [sys.executable, "-c", SCRIPT, tmp_path, tmp_path / "feats.h5"]
    subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    with FeatureFile(tmp_path / "feats.h5") as file:
        assert file.embeddings.shape == (4, 1280)


def test_it_works_in_a_thread(paths: list[str]) -> None:
    found: list[npt.NDArray[np.float32]] = []
    extractor = UmedfeatExtractor(LITE, device="cpu", workers=1)
    thread = threading.Thread(target=lambda: found.append(extractor.transform(paths[:1])))
    thread.start()
    thread.join(300)
    assert [vectors.shape for vectors in found] == [(1, 1280)]
