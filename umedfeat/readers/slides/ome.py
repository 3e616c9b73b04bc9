"""OME-XML: what it says of each picture in a file."""

from __future__ import annotations

from typing import NamedTuple
from xml.etree import ElementTree

__all__ = ["OmeImage", "ome_images"]

_SIZES = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeXUnit", "PhysicalSizeYUnit")
#: Attributes of a channel that only emitted light has.
_EMISSION = ("Fluor", "EmissionWavelength", "ExcitationWavelength")


class OmeImage(NamedTuple):
    """One ``Image``.

    Attributes:
        name: "" if it has none.
        channels: name of each channel ("" without); colours are named where the file gives red, green or blue.
        scale: "ome.PhysicalSizeX" … of its pixels.
        fluorescent: a channel has a dye or a wavelength.
        files: names of the files that hold its planes, where they are told.
    """

    name: str
    channels: tuple[str, ...]
    scale: dict[str, str]
    fluorescent: bool
    files: tuple[str, ...] = ()


def ome_images(xml: str) -> list[OmeImage]:
    """Every picture of an OME-XML text in its order; none where it is something else."""
    if "OME" not in xml[:2000]:
        return []
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return []
    return [_image(node) for node in root.iter() if _tag(node) == "Image" and _child(node, "Pixels") is not None]


def _image(node: ElementTree.Element) -> OmeImage:
    pixels = _child(node, "Pixels")
    assert pixels is not None
    channels = [child for child in pixels if _tag(child) == "Channel"]
    return OmeImage(
        name=node.attrib.get("Name", ""),
        channels=tuple(_channel_name(channel) for channel in channels),
        scale={f"ome.{name}": pixels.attrib[name] for name in _SIZES if name in pixels.attrib},
        fluorescent=any(key in channel.attrib for channel in channels for key in _EMISSION),
        files=tuple(dict.fromkeys(one.attrib["FileName"] for one in pixels.iter() if "FileName" in one.attrib)),
    )


def _channel_name(channel: ElementTree.Element) -> str:
    return channel.attrib.get("Name", "") or _COLOURS.get(channel.attrib.get("Color", ""), "")


#: Signed 32-bit RGBA of the pure colours.
_COLOURS = {"-16776961": "red", "16711935": "green", "65535": "blue"}


def _tag(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]


def _child(node: ElementTree.Element, tag: str) -> ElementTree.Element | None:
    return next((child for child in node if _tag(child) == tag), None)
