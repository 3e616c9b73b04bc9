"""One radiograph: the command imports what the run uses, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lookalike import write_official
from PIL import Image

from umedfeat.machine import may_have_gpu

#: Libraries of other formats, encoders and commands; torchvision brings torch's compiler, which takes seconds.
FORBIDDEN = {
    "jinja2",
    "matplotlib",
    "nibabel",
    "openslide",
    "openvino",
    "pandas",
    "pydicom",
    "scipy",
    "sklearn",
    "timm",
    "torch._dynamo",
    "torchvision",
}
SCRIPT = """
import json, sys
if __name__ == "__main__":
    from umedfeat.cli import run
    code = run(sys.argv[1:])
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
    sys.exit(code)
"""


@pytest.fixture
def radiograph(tmp_path: Path) -> Path:
    y, x = np.mgrid[-1:1:300j, -1:1:256j]
    Image.fromarray((127 + 100 * np.sin(5 * x) * np.cos(3 * y)).astype(np.uint8)).save(tmp_path / "chest.png")
    return tmp_path / "chest.png"


def modules_of_a_run(radiograph: Path, *options: str) -> set[str]:
    """What ``umedfeat extract`` has imported in its own process when it ends."""
    folder = radiograph.parent
    (folder / "script.py").write_text(SCRIPT)
    (folder / "key").write_text("a secret of the test suite")
    arguments = ["extract", "-i", str(radiograph), "-o", str(folder / "f.h5"), "--progress", "none", *options]
    command = [sys.executable, str(folder / "script.py"), *arguments, "--id-key", str(folder / "key")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_a_radiograph_needs_no_other_formats_libraries(radiograph: Path) -> None:
    modules = modules_of_a_run(radiograph, "--encoder", "efficientnet-lite0", "--device", "cpu", "--runtime", "torch")
    assert not modules & FORBIDDEN
    assert "torch" in modules


@pytest.mark.parametrize(
    ("encoder", "device"),
    [("umedpt", "auto"), ("umedpt", "cpu"), ("efficientnet-lite0", "auto"), ("umedfeat-open", "auto")],
)
def test_on_openvino_no_torch_is_needed(radiograph: Path, encoder: str, device: str) -> None:
    pytest.importorskip("openvino")
    if may_have_gpu() and device == "auto":
        pytest.skip("here torch is asked for GPUs")
    weights = radiograph.parent / "look.pt.zip"
    if encoder == "umedpt":
        write_official(weights)
    own = ["--weights", str(weights)] if weights.exists() else []
    modules = modules_of_a_run(radiograph, "--encoder", encoder, "--device", device, *own)
    assert not modules & ((FORBIDDEN | {"torch"}) - {"openvino"})
    assert "openvino" in modules


def test_reading_processes_know_no_torch() -> None:
    code = "import sys, umedfeat.engine.local.worker, umedfeat.extraction.run; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
