"""Bad slides: they fail or lose named tiles, the other slides are read, and nothing turns white.

The limit: changed bytes in the middle of a JPEG piece that libjpeg decodes without an error give other colours, and
nothing can tell (seldom through OpenSlide, where a restart interval of an NDPI happens to end well; often in the
TIFFs that OpenSlide refuses, OME-TIFF with sub-resolutions). A cut file is always noticed.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from slide_factory import tissue_like, write_slide
from slide_reading import all_tiles, planned, policy, source_of

from umedfeat.contract import RegionUnreadable
from umedfeat.discovery import discover
from umedfeat.errors import InputError, ScaleError, UnreadableInput
from umedfeat.naming import Pseudonyms
from umedfeat.readers import open_reader
from umedfeat.readers.slides.tiff import TiffBackend

SVS, NDPI, OME = "CMU-1-Small-Region.svs", "test3-DAPI-2-(387).ndpi", "OS-1-detail.ome.tif"


def damaged(data: bytes, generator: random.Random, kind: str) -> bytes:
    """Cut, or 300 bytes overwritten, at a place drawn among the directories (a third) or anywhere."""
    start = generator.randrange(8, 2000 if generator.random() < 1 / 3 else len(data) - 400)
    if kind == "cut":
        return data[:start]
    filling = {"noise": generator.randbytes(300), "zeros": bytes(300), "ones": b"\xff" * 300}[kind]
    return data[:start] + filling + data[start + 300 :]


def turned_white(tile: np.ndarray, sound: np.ndarray) -> bool:
    return bool((tile.min(axis=2) > 250).mean() > (sound.min(axis=2) > 230).mean() + 0.05)


@pytest.mark.parametrize("kind", ["cut", "noise", "zeros", "ones"])
@pytest.mark.parametrize(("name", "size"), [(SVS, 448), (NDPI, 448), (OME, 112)])
def test_damaged_real_slides_are_equal_or_named(
    data_dir: Path, tmp_path: Path, name: str, size: int, kind: str
) -> None:
    original = (data_dir / "wsi" / name).read_bytes()
    chosen = policy(mpp=0.5, tile_size=size)
    plan, sound = all_tiles(data_dir / "wsi" / name, chosen)
    seed = 20261125  # benchmarks/slide_damage.py tries others
    generator = random.Random(seed)
    path = tmp_path / name
    for _ in range(6):
        path.write_bytes(damaged(original, generator, kind))
        try:
            found, tiles = all_tiles(path, chosen)
        except InputError as error:
            assert name in error.message
            assert error.remedy
            continue
        if len(found.regions) != len(plan.regions):
            continue  # the size of the slide itself was overwritten
        for tile, expected in zip(tiles, sound, strict=True):
            if isinstance(tile, RegionUnreadable) or np.array_equal(tile, expected):
                continue
            assert not turned_white(tile, expected), f"seed {seed}: a tile turned white"
            assert kind != "cut", f"seed {seed}: a cut tile was filled up"


def test_a_damaged_tile_costs_its_region_and_no_other(tmp_path: Path) -> None:
    """OpenSlide refuses everything after its first error: the slide is opened anew, each good tile is as before."""
    path = write_slide(tmp_path / "s.svs", tissue_like(1024, 1280), 0.5, levels=1, flavour="svs")
    chosen = policy(tile_size=256)
    _, sound = all_tiles(path, chosen)
    with tifffile.TiffFile(path) as file:
        offsets = file.pages[0].dataoffsets
    data = bytearray(path.read_bytes())
    for number in (0, 7, 19):
        data[offsets[number] : offsets[number] + 40] = bytes(40)
    path.write_bytes(data)
    _, tiles = all_tiles(path, chosen)
    assert [k for k, tile in enumerate(tiles) if isinstance(tile, RegionUnreadable)] == [0, 7, 19]
    assert all(np.array_equal(a, b) for k, (a, b) in enumerate(zip(tiles, sound, strict=True)) if k not in (0, 7, 19))


@pytest.mark.parametrize(("flavour", "mpp"), [("svs", 0.5), ("ome", 0.5), ("generic", 0.5)])
def test_a_slide_cut_in_half_names_the_lost_half(tmp_path: Path, flavour: str, mpp: float) -> None:
    path = write_slide(tmp_path / "s.tif", tissue_like(1024, 1024), mpp, levels=1, flavour=flavour)
    chosen = policy(tile_size=256)
    _, sound = all_tiles(path, chosen)
    with tifffile.TiffFile(path) as file:
        middle = file.pages[0].dataoffsets[8]
    path.write_bytes(path.read_bytes()[: middle + 20])
    try:
        _, tiles = all_tiles(path, chosen)
    except UnreadableInput:
        return
    assert all(isinstance(tile, RegionUnreadable) for tile in tiles[8:])
    assert all(np.array_equal(a, b) for a, b in zip(tiles[:8], sound[:8], strict=True))


@pytest.mark.parametrize("flavour", ["svs", "ome", "generic"])
def test_a_missing_scale_never_hides_damage(tmp_path: Path, flavour: str) -> None:
    path = write_slide(tmp_path / "s.tif", tissue_like(512, 512), None, levels=1, flavour=flavour)
    with pytest.raises(ScaleError):
        planned(path, policy())
    with tifffile.TiffFile(path) as file:
        last = file.pages[0].dataoffsets[-1]
    path.write_bytes(path.read_bytes()[: last + 60])
    with pytest.raises(UnreadableInput, match=r"s\.tif"):
        planned(path, policy())


def test_mirax_without_its_folder_fails_with_the_remedy(tmp_path: Path) -> None:
    jpeg = tmp_path / "preview.jpg"
    from PIL import Image

    Image.fromarray(tissue_like(64, 64)).save(jpeg)
    (tmp_path / "lonely.mrxs").write_bytes(jpeg.read_bytes())
    jpeg.unlink()
    found = discover([tmp_path], policy(), Pseudonyms(b"k" * 16))
    faults = [failure.message for failure in found.failures]
    for source in found.sources:
        with pytest.raises(InputError) as caught:
            open_reader(source, policy())
        faults.append(f"{caught.value.message}: {caught.value.remedy}")
    assert len(faults) == 1
    assert "lonely.mrxs" in faults[0]


def test_bad_files_among_good_ones(tmp_path: Path) -> None:
    """Every file ends in one list; the good slides are found and read."""
    write_slide(tmp_path / "good.svs", tissue_like(512, 512), 0.5, levels=1, flavour="svs")
    write_slide(tmp_path / "white.svs", np.full((1024, 1024, 3), 243, np.uint8), 0.5, levels=1, flavour="svs")
    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "text.ndpi").write_text("Dear colleague, the slides follow by post.")
    (tmp_path / "head.tif").write_bytes((tmp_path / "good.svs").read_bytes()[:12])
    found = discover([tmp_path], policy(), Pseudonyms(b"k" * 16))
    outcome: dict[str, Any] = {failure.source: failure.message for failure in found.failures}
    for source in found.sources:
        try:
            reader = open_reader(source, policy("auto"))
            outcome[source.name] = len(reader.plan().regions)
            reader.close()
        except InputError as error:
            outcome[source.name] = error.message
    assert outcome.pop("good.svs") == 4
    assert outcome.pop("white.svs") == 0
    assert "empty" in outcome["empty.svs"]
    assert set(outcome) == {"empty.svs", "text.ndpi", "head.tif"}
    assert all(name in message for name, message in outcome.items())


def test_tiles_of_a_damaged_overview_fail_the_slide(tmp_path: Path) -> None:
    """The tissue mask is not made of what cannot be read."""
    path = write_slide(tmp_path / "s.svs", tissue_like(1024, 1024), 0.5, levels=1, flavour="svs")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[5]
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = bytes(40)
    path.write_bytes(data)
    reader = open_reader(source_of(path), policy("auto"))
    with pytest.raises(UnreadableInput, match="overview is unreadable"):
        reader.plan()
    reader.close()


def without_bytes(path: Path, page: int, tiles: slice) -> None:
    """Set the lengths of some stored tiles to 0, as a damaged table says it and as sparse files do."""
    with tifffile.TiffFile(path) as file:
        table = file.pages[page].tags["TileByteCounts"]
        size = table.valuebytecount // table.count
    data = bytearray(path.read_bytes())
    for number in range(*tiles.indices(table.count)):
        place = table.valueoffset + number * size
        data[place : place + size] = bytes(size)
    path.write_bytes(data)


@pytest.mark.parametrize("tissue", ["none", "auto"])
def test_a_lost_tile_of_an_aperio_slide_is_unreadable_not_white(tmp_path: Path, tissue: str) -> None:
    path = write_slide(tmp_path / "s.svs", tissue_like(1024, 1280), 0.5, levels=4, flavour="svs")
    chosen = policy(tissue, tile_size=256)
    _, sound = all_tiles(path, chosen)
    without_bytes(path, 0, slice(7, 8))
    _, tiles = all_tiles(path, chosen)
    assert [k for k, tile in enumerate(tiles) if isinstance(tile, RegionUnreadable)] == [7]
    assert "missing" in str(tiles[7])
    assert all(np.array_equal(a, b) for k, (a, b) in enumerate(zip(tiles, sound, strict=True)) if k != 7)


def test_a_lost_tile_within_tissue_is_planned_and_missed(tmp_path: Path) -> None:
    """OpenSlide takes it out of the overview as well: it must not pass for glass."""
    path = write_slide(tmp_path / "s.svs", tissue_like(1024, 1280), 0.5, levels=1, flavour="svs")
    without_bytes(path, 0, slice(7, 8))
    _, tiles = all_tiles(path, policy("auto", tile_size=64))
    assert len(tiles) == 320
    assert sum(isinstance(tile, RegionUnreadable) for tile in tiles) == 16


@pytest.mark.parametrize("flavour", ["svs", "generic"])
def test_a_slide_without_any_stored_tile_fails(tmp_path: Path, flavour: str) -> None:
    path = write_slide(tmp_path / "s.tif", tissue_like(1024, 1024), 0.5, levels=1, flavour=flavour)
    without_bytes(path, 0, slice(None))
    with pytest.raises(UnreadableInput, match=r"s\.tif.*missing"):
        planned(path, policy("auto"))


def test_a_slide_cut_behind_its_first_image_is_not_read_without_its_scale(tmp_path: Path) -> None:
    """OpenSlide refuses it; whoever reads its first page alone would take --source-mpp for the scanner's own scale."""
    path = write_slide(tmp_path / "s.svs", tissue_like(1024, 1024), 0.25, levels=3, flavour="svs")
    with tifffile.TiffFile(path) as file:
        second = file.pages[1].offset
    path.write_bytes(path.read_bytes()[: second + 100])
    with pytest.raises(UnreadableInput, match="cut"):
        planned(path, policy(source_mpp=0.5))


def test_a_jpeg_that_libjpeg_only_warns_of_is_unreadable_in_every_tiff(tmp_path: Path) -> None:
    """The decoder would fill the rest of the piece with grey."""
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, tissue_like(512, 512), tile=(256, 256), photometric="rgb", compression="jpeg")
    with tifffile.TiffFile(path) as file:
        begin, length = file.pages[0].dataoffsets[2], file.pages[0].databytecounts[2]
    data = bytearray(path.read_bytes())
    data[begin + length // 2 : begin + length // 2 + 2] = b"\xff\xd9"
    path.write_bytes(data)
    backend = TiffBackend(path, "s.tif", 10**9)
    assert backend.read(0, 0, 0, 512, 256).scanned is None
    with pytest.raises(RegionUnreadable, match="piece 2 is damaged"):
        backend.read(0, 0, 256, 256, 256)
    backend.close()
