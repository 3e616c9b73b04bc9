"""Python, the packages, and what decodes which kind of file."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from umedfeat.doctor.finding import Finding, Wish
from umedfeat.doctor.versions import OPTIONAL, REQUIRED, versions

__all__ = ["codecs", "openslide", "packages", "python"]


def python(wish: Wish) -> Iterator[Finding]:
    """The interpreter and the system."""
    known = versions()
    yield Finding("umedfeat", "ok", known["umedfeat"])
    seen = f"{known['python']} ({sys.implementation.name}) on {known['system']}"
    yield Finding("python", "ok", seen)


def packages(wish: Wish) -> Iterator[Finding]:
    """What is installed, and what is not."""
    known = versions()
    missing = [name for name in REQUIRED if not known[name]]
    if missing:
        remedy = "pip install --force-reinstall umedfeat"
        yield Finding("packages", "fail", f"not installed: {', '.join(missing)}", remedy)
    yield Finding("packages", "ok", ", ".join(f"{name} {known[name]}" for name in REQUIRED if known[name]))
    have = [f"{name} {known[name]}" for name in OPTIONAL if known[name]]
    lack = [f"{name} (umedfeat[{extra}])" for name, extra in OPTIONAL.items() if not known[name]]
    yield Finding("extras", "ok", f"{', '.join(have) or 'none'}; without {', '.join(lack) or 'none'}")


def codecs(wish: Wish) -> Iterator[Finding]:
    """Every compressed transfer syntax of DICOM that can be decoded at all, and by what."""
    from pydicom.uid import AllTransferSyntaxes, JPEGExtended12Bit

    from umedfeat.readers.dicom.decode import codec_package, decoders_of

    for syntax in filter(lambda syntax: syntax.is_encapsulated, AllTransferSyntaxes):
        try:
            decoders = decoders_of(syntax)
        except NotImplementedError:  # videos and what nobody writes: told when such a file is met
            continue
        if not decoders:
            yield Finding("codec", "note", f"{syntax.name}: none", f"pip install {codec_package(syntax)}")
        elif syntax == JPEGExtended12Bit and "pylibjpeg" not in decoders:
            remedy = "pip install 'umedfeat[gpl-codecs]' (GPLv3), if you have such files"
            seen = f"{syntax.name}: 8 bits by {', '.join(decoders)}; 12 bits by nothing"
            yield Finding("codec", "note", seen, remedy)
        else:
            yield Finding("codec", "ok", f"{syntax.name}: {', '.join(decoders)}")


def openslide(wish: Wish) -> Iterator[Finding]:
    """The library that opens most slides."""
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: the shared library is not there
        remedy = "pip install --force-reinstall openslide-bin openslide-python"
        yield Finding("openslide", "fail", f"cannot be loaded ({type(error).__name__})", remedy)
    else:
        yield Finding("openslide", "ok", str(openslide.__library_version__))
