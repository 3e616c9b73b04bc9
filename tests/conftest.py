"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from umedfeat.machine import CORES_VARIABLE, usable_cores

_CORES = usable_cores()

# One thread for each of the parallel tests and what they start: with as many as there are cores, they wait for each
# other in busy loops, which doubled the time of all tests. Set before torch and numpy read it. One core for our own
# commands too: what a test has to say about several threads or processes, it says with their number.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", CORES_VARIABLE):
    os.environ.setdefault(_variable, "1")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: a sixth of the time of tests is waiting, for processes that start or clean up."""
    return _CORES + 1


#: A change is judged by the same damages and examples as the one before it. Another number here looks elsewhere: by
#: hand, for faults that nobody knows yet.
SEED_VARIABLE = "UMEDFEAT_TEST_SEED"

settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=SEED_VARIABLE not in os.environ,
)
settings.load_profile("shared machine")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Of what a test draws: its own, the same in every run."""
    return zlib.crc32(f"{os.environ.get(SEED_VARIABLE, '')}{request.node.nodeid}".encode())


@pytest.fixture(autouse=True)
def _untouched_log() -> None:
    """Commands that run inside a test configure the program's log, and so did those in fixtures of modules, before this
    one: every test begins with it as the logging library leaves it, not as it is found."""
    log = logging.getLogger("umedfeat")
    log.setLevel(logging.NOTSET)
    log.handlers.clear()
    log.propagate = True


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled graphs of tests' tiny networks must not push the user's own out of the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UMEDFEAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real images and reference checkpoints beside the checkout; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no folder of shared real data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def data_dir(shared_dir: Path) -> Path:
    """Real images with a MANIFEST.csv (licences there)."""
    return shared_dir / "data"


@pytest.fixture(scope="session")
def ref_dir(shared_dir: Path) -> Path:
    """Reference checkpoints and outputs of the original implementation."""
    return shared_dir / "ref"
