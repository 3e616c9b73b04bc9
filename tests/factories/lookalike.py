"""Files that look like official ones: saved by torch.save with stub classes of the same names, tiny and random."""

from __future__ import annotations

import io
import sys
import types
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

_CLASSES = {
    "PyramidEncoder": "mmm.mtl_modules.shared_blocks.PyramidEncoder",
    "Squeezer": "mmm.mtl_modules.shared_blocks.Squeezer",
    "TorchVisionSwinformer": "mmm.neural.modules.swinformer",
    "Config": "mmm.mtl_modules.shared_blocks.Squeezer",
}


@contextmanager
def stub_modules() -> Iterator[dict[str, type]]:
    """Importable stand-ins for the original package's classes, only while a file is written."""
    names = {".".join(place.split(".")[:k]) for place in _CLASSES.values() for k in range(1, place.count(".") + 2)}
    modules = {name: types.ModuleType(name) for name in names}
    classes: dict[str, type] = {}
    for name, place in _CLASSES.items():
        base = object if name == "Config" else nn.Module
        classes[name] = type(name, (base,), {"__module__": place, "__qualname__": name})
        setattr(modules[place], name, classes[name])
    sys.modules.update(modules)
    try:
        yield classes
    finally:
        for name in names:
            del sys.modules[name]


def tiny_swin(embed: int = 8, depths: tuple[int, ...] = (2, 2, 2, 2), window: int = 4) -> SwinTransformer:
    """torchvision's own Swin V2, small, with random weights in every place."""
    heads = [max(1, embed * 2**k // 8) for k in range(len(depths))]
    network = SwinTransformer(
        patch_size=[4, 4],
        embed_dim=embed,
        depths=list(depths),
        num_heads=heads,
        window_size=[window, window],
        block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2,
    )
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    del network.norm, network.permute, network.avgpool, network.flatten
    network.head = nn.Identity()
    return network.eval()


def tiny_squeezer(channels: int, out_channels: int, pool: str) -> dict[str, nn.Module]:
    """The parts of a squeezer: ``pool`` is "pool" (1.0.4 or later) or "avg" (1.0.3)."""
    torch.manual_seed(2)
    conv = nn.Conv2d(channels, out_channels, 1) if out_channels > 0 else nn.Identity()
    norm = nn.GroupNorm(1, out_channels if out_channels > 0 else channels)
    norm.weight.data += 0.2 * torch.randn_like(norm.weight)
    norm.bias.data += 0.2 * torch.randn_like(norm.bias)
    return {"norm": norm, "conv": conv, "activation": nn.GELU(), pool: nn.AdaptiveAvgPool2d((1, 1))}


def write_official(
    path: Path, *, out_channels: int = 16, pool: str = "pool", pyramid_channels: tuple[int, ...] = (), **sizes: Any
) -> SwinTransformer:
    """Write ``path`` as an official file and return the network that is in it."""
    network = tiny_swin(**sizes)
    channels = network.features[0][0].out_channels * 2 ** (len(network.features) // 2 - 1)
    with stub_modules() as classes:
        wrapper = classes["TorchVisionSwinformer"]()
        wrapper.wrapped_model = network
        encoder = classes["PyramidEncoder"]()
        encoder.model = wrapper
        encoder.args = classes["Config"]()
        encoder.args.pyramid_channels = list(pyramid_channels)
        squeezer = classes["Squeezer"]()
        for name, part in tiny_squeezer(channels, out_channels, pool).items():
            setattr(squeezer, name, part)
        members = {"encoder.pt": saved(encoder), "squeezer.pt": saved(squeezer)}
    write_archive(path, members)
    return network


def saved(thing: object) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def write_archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """An outer zip as the original package writes it."""
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def read_members(path: Path) -> dict[str, bytes]:
    """Members of a zip."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(member: bytes, changes: dict[str, bytes]) -> bytes:
    """A torch archive with some inner members replaced (by the end of their name) or added."""
    source = zipfile.ZipFile(io.BytesIO(member))
    root = source.namelist()[0].partition("/")[0]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        left = dict(changes)
        for name in source.namelist():
            target.writestr(name, left.pop(name.partition("/")[2], source.read(name)))
        for name, data in left.items():
            target.writestr(f"{root}/{name}", data)
    return out.getvalue()
