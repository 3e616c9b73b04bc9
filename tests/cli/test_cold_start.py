"""One radiograph: the command imports what the run uses, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def test_a_radiograph_needs_no_other_formats_libraries(radiograph: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "key").write_text("a secret of the test suite")
    options = ["--encoder", "efficientnet-lite0", "--device", "cpu", "--progress", "none"]
    arguments = ["extract", "-i", str(radiograph), "-o", str(tmp_path / "f.h5"), *options]
    arguments += ["--id-key", str(tmp_path / "key")]
    command = [sys.executable, str(tmp_path / "script.py"), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    modules = set(json.loads(done.stderr.splitlines()[-1]))
    assert not modules & FORBIDDEN


def test_reading_processes_know_no_torch() -> None:
    code = "import sys, umedfeat.engine.local.worker, umedfeat.extraction.run; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
