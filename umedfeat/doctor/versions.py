"""Versions of what the program stands on, from the packages' metadata: nothing of them is imported."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from umedfeat._version import __version__

__all__ = ["OPTIONAL", "REQUIRED", "versions"]

#: Packages that decide numbers or read files; without one of them the main job fails.
REQUIRED = (
    *("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "h5py", "click"),
    *("openslide-python", "openslide-bin", "pydicom", "nibabel", "Pillow", "tifffile", "imagecodecs", "simplejpeg"),
    "safetensors",
)
#: Package → the extra that brings it.
OPTIONAL = {
    "openvino": "openvino",
    "SimpleITK": "itk",
    "zarr": "zarr",
    "pyisyntax": "isyntax",
    "pyarrow": "parquet",
    "pylibjpeg-libjpeg": "gpl-codecs",
    "s3fs": "s3",
    "gcsfs": "gcs",
    "adlfs": "azure",
    "aiohttp": "http",
}


def versions() -> dict[str, str]:
    """Name → version of the program, of Python, of the system and of the packages; "" for what is not installed."""
    system = {"umedfeat": __version__, "python": platform.python_version(), "system": platform.platform()}
    return system | {name: _version(name) for name in (*REQUIRED, *OPTIONAL)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
