"""Small valid slides in scanners' own formats, written byte by byte after OpenSlide's documentation of them."""

from __future__ import annotations

import contextlib
import io
import sqlite3
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from slide_factory import halved

RGB = npt.NDArray[np.uint8]

#: Side of a stored piece; the pixels given must be a multiple of it.
PIECE = 256


def jpeg(pixels: RGB, **options: Any) -> bytes:
    """A JPEG of nearly the given pixels."""
    stream = io.BytesIO()
    options |= {} if pixels.ndim == 2 else {"subsampling": 0}
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def png(pixels: RGB) -> bytes:
    """Exactly the given pixels."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_mrxs(
    path: Path, pixels: RGB, mpp: float, *, levels: int = 2, missing: frozenset[tuple[int, int]] = frozenset()
) -> Path:
    """MIRAX: ``<name>.mrxs`` and its folder with Slidedat.ini, Index.dat and one data file per level.

    Args:
        missing: (column, row) of the 256-pixel pieces of level 0 that were never scanned.
    """
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(jpeg(pixels[::8, ::8]))
    across, down = pixels.shape[1] // PIECE, pixels.shape[0] // PIECE
    pages = []
    for level in range(levels):
        step, data, records = 2**level, b"", []
        for y in range(0, down, step):
            for x in range(0, across, step):
                if all((x + i, y + j) in missing for i in range(step) for j in range(step)):
                    continue
                piece = np.full((PIECE, PIECE, 3), 255, np.uint8)
                part = pixels[y // step * PIECE :, x // step * PIECE :][:PIECE, :PIECE]
                piece[: part.shape[0], : part.shape[1]] = part
                stored = png(piece)
                records.append((y * across + x, len(data), len(stored), level))
                data += stored
        (folder / f"Data{level:04}.dat").write_bytes(data)
        pages.append(records)
        pixels = halved(pixels)
    (folder / "Slidedat.ini").write_text(_slidedat(across, down, levels, mpp))
    (folder / "Index.dat").write_bytes(_mirax_index(pages))
    return path


_SLIDE_ID = "0123456789ABCDEF0123456789ABCDEF"


def _slidedat(across: int, down: int, levels: int, mpp: float) -> str:
    sections = "".join(f"HIER_0_VAL_{k} = ZoomLevel_{k}\nHIER_0_VAL_{k}_SECTION = LEVEL_{k}\n" for k in range(levels))
    text = f"""[GENERAL]
SLIDE_VERSION = 02.03
SLIDE_ID = {_SLIDE_ID}
IMAGENUMBER_X = {across}
IMAGENUMBER_Y = {down}
OBJECTIVE_MAGNIFICATION = 20
CameraImageDivisionsPerSide = 1
[HIERARCHICAL]
INDEXFILE = Index.dat
HIER_COUNT = 1
NONHIER_COUNT = 0
HIER_0_NAME = Slide zoom level
HIER_0_COUNT = {levels}
{sections}[DATAFILE]
FILE_COUNT = {levels}
"""
    text += "".join(f"FILE_{k} = Data{k:04}.dat\n" for k in range(levels))
    for k in range(levels):
        text += f"""[LEVEL_{k}]
OVERLAP_X = 0
OVERLAP_Y = 0
MICROMETER_PER_PIXEL_X = {mpp * 2**k}
MICROMETER_PER_PIXEL_Y = {mpp * 2**k}
IMAGE_FORMAT = PNG
IMAGE_FILL_COLOR_BGR = 16777215
DIGITIZER_WIDTH = {PIECE}
DIGITIZER_HEIGHT = {PIECE}
IMAGE_CONCAT_FACTOR = {min(k, 1)}
"""
    return text


def _mirax_index(pages: list[list[tuple[int, int, int, int]]]) -> bytes:
    """Version, slide id, pointer to the levels' pointers; of each level one page of (piece, place, length, file)."""
    head = b"01.02" + _SLIDE_ID.encode()
    table = len(head) + 8
    pointers, body = [], b""
    start = table + 4 * len(pages)
    for records in pages:
        here = start + len(body)
        pointers.append(here)
        body += struct.pack("<ii", 0, here + 8) + struct.pack("<ii", len(records), 0)
        body += b"".join(struct.pack("<iiii", *record) for record in records)
    return head + struct.pack("<ii", table, 0) + struct.pack(f"<{len(pages)}i", *pointers) + body


def write_vms(path: Path, pixels: RGB, mpp: float) -> Path:
    """Hamamatsu VMS: a text file, the image and its map as JPEG with restart markers, and a macro image."""
    height, width = pixels.shape[:2]
    blocks = 8  # of 8 pixels: restart intervals are OpenSlide's pieces
    names = {"image": f"{path.stem}-image.jpg", "map": f"{path.stem}-map.jpg", "macro": f"{path.stem}-macro.jpg"}
    for name, content in (
        (names["image"], jpeg(pixels, restart_marker_blocks=blocks)),
        (names["map"], jpeg(halved(halved(pixels)), restart_marker_blocks=blocks)),
        (names["macro"], jpeg(pixels[::16, ::16])),
    ):
        (path.parent / name).write_bytes(content)
    path.write_text(
        f"""[Virtual Microscope Specimen]
NoLayers=1
NoJpegColumns=1
NoJpegRows=1
ImageFile={names["image"]}
MapFile={names["map"]}
MacroImage={names["macro"]}
SourceLens=20
PhysicalWidth={round(width * mpp * 1000)}
PhysicalHeight={round(height * mpp * 1000)}
"""
    )
    return path


def write_scn(path: Path, pixels: RGB, mpp: float, *, levels: int = 2, offset: tuple[int, int] = (0, 0)) -> Path:
    """Leica SCN: a BigTIFF of a macro image and the pyramid of one scanned area; XML tells where it lies.

    Args:
        offset: (x, y) of the scanned area on the slide in level-0 pixels. The rest is transparent: what lies before it
            and 256 pixels behind.
    """
    height, width = pixels.shape[:2]
    unit = round(mpp * 1000)  # nanometres of a pixel
    full = ((width + offset[0] + PIECE) * unit, (height + offset[1] + PIECE) * unit)
    dimensions = "".join(
        f'<dimension sizeX="{width >> k}" sizeY="{height >> k}" r="{k}" ifd="{k + 1}"/>' for k in range(levels)
    )
    description = f"""<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection sizeX="{full[0]}" sizeY="{full[1]}">
<image><pixels sizeX="64" sizeY="64"><dimension sizeX="64" sizeY="64" r="0" ifd="0"/></pixels>
<view sizeX="{full[0]}" sizeY="{full[1]}" offsetX="0" offsetY="0"/><scanSettings><illuminationSettings>
<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image>
<image><pixels sizeX="{width}" sizeY="{height}">{dimensions}</pixels>
<view sizeX="{width * unit}" sizeY="{height * unit}" offsetX="{offset[0] * unit}" offsetY="{offset[1] * unit}"/>
<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>
<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image>
</collection></scn>"""
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        macro = np.full((64, 64, 3), 200, np.uint8)
        writer.write(macro, tile=(64, 64), photometric="rgb", description=description, metadata=None)
        for level in range(levels):
            per_cm = 1e4 / (mpp * 2**level)
            options: dict[str, Any] = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
            writer.write(pixels, tile=(PIECE, PIECE), photometric="rgb", metadata=None, description="", **options)
            pixels = halved(pixels)
    return path


def write_bif(path: Path, pixels: RGB, mpp: float, *, levels: int = 2) -> Path:
    """Ventana BIF: the iScan XML beside a label image, stitching XML beside the levels; rows count from below."""
    across, down = pixels.shape[1] // PIECE, pixels.shape[0] // PIECE
    iscan = f'<iScan Magnification="20" ScanRes="{mpp}" Z-layers="1"/>'.encode()
    stitching = f"""<EncodeInfo><SlideStitchInfo><ImageInfo AOIScanned="1" Width="{PIECE}" Height="{PIECE}"
NumRows="{down}" NumCols="{across}" Pos-X="0" Pos-Y="{pixels.shape[0]}">{_joints(across, down)}</ImageInfo>
</SlideStitchInfo>
<AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>""".encode()
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        label = np.full((64, 64, 3), 128, np.uint8)
        writer.write(label, photometric="rgb", metadata=None, description="Label Image", extratags=[_packet(iscan)])
        for level in range(levels):
            writer.write(
                pixels,
                tile=(PIECE, PIECE),
                photometric="rgb",
                metadata=None,
                description=f"level={level} mag={20 / 2**level:g} quality=95",
                extratags=[_packet(stitching)] if level == 0 else [],
            )
            pixels = halved(pixels)
    return path


def _packet(xml: bytes) -> tuple[int, str, int, bytes, bool]:
    return (700, "B", len(xml), xml, True)


def _joints(across: int, down: int) -> str:
    """How pieces join, without overlap: numbered from 1 at the lower left, every other row backwards."""

    def number(column: int, row: int) -> int:
        from_below = down - 1 - row
        return from_below * across + (across - 1 - column if from_below % 2 else column) + 1

    joint = '<TileJointInfo Direction="{}" Tile1="{}" Tile2="{}" OverlapX="0" OverlapY="0" Confidence="100"/>'
    joints = [joint.format("RIGHT", number(x, y), number(x + 1, y)) for y in range(down) for x in range(across - 1)]
    joints += [joint.format("UP", number(x, y), number(x, y - 1)) for y in range(1, down) for x in range(across)]
    return "".join(joints)


def write_philips(path: Path, pixels: RGB, mpp: float, *, levels: int = 2) -> Path:
    """Philips TIFF: a pyramid whose description is XML with the pixel spacing in millimetres."""

    def spacing(level: int) -> str:
        value = mpp / 1000 * 2**level
        return f'<Attribute Name="DICOM_PIXEL_SPACING">&quot;{value:.9f}&quot; &quot;{value:.9f}&quot;</Attribute>'

    representations = "".join(
        f'<DataObject ObjectType="PixelDataRepresentation">{spacing(k)}</DataObject>' for k in range(levels)
    )
    description = f"""<?xml version="1.0" encoding="UTF-8" ?>
<DataObject ObjectType="DPUfsImport"><Attribute Name="PIM_DP_SCANNED_IMAGES"><Array>
<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE">WSI</Attribute>{spacing(0)}
<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>{representations}</Array></Attribute>
</DataObject></Array></Attribute></DataObject>"""
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            writer.write(
                pixels,
                tile=(PIECE, PIECE),
                photometric="rgb",
                metadata=None,
                description=description if level == 0 else "",
                software="Philips DP v1.0" if level == 0 else "",
                subfiletype=1 if level else 0,
            )
            pixels = halved(pixels)
    return path


def write_sakura(path: Path, pixels: RGB, mpp: float, *, levels: int = 2, planes: int = 1) -> Path:
    """Sakura SVSLIDE: a database of grey JPEG tiles, one for each colour; OpenSlide shows the middle focal plane."""
    height, width = pixels.shape[:2]
    with contextlib.closing(sqlite3.connect(path)) as base, base:
        base.execute("CREATE TABLE DataManagerSQLiteConfigXPO (TableName TEXT)")
        base.execute("INSERT INTO DataManagerSQLiteConfigXPO VALUES ('uid')")
        base.execute("CREATE TABLE uid (id TEXT PRIMARY KEY, size INTEGER, data BLOB)")
        base.execute(
            "CREATE TABLE tile (TILEID TEXT, PYRAMIDLEVEL INTEGER, COLUMNINDEX INTEGER, ROWINDEX INTEGER, "
            "COLORINDEX INTEGER)"
        )
        texts = ("SlideId", "Date", "Description", "Creator", "DiagnosisCode", "Keywords")
        columns = ", ".join(f"{name} TEXT" for name in texts)
        base.execute(
            f"CREATE TABLE SVSlideDataXPO (OID INTEGER, m_labelScan INTEGER, m_overviewScan INTEGER, {columns})"
        )
        base.execute("INSERT INTO SVSlideDataXPO VALUES (1, 0, 0, 's', '', '', '', '0', '')")
        base.execute(
            "CREATE TABLE SVHRScanDataXPO (OID INTEGER, ParentSlide INTEGER, ScanId TEXT, Date TEXT, Description TEXT, "
            "Name TEXT, ResolutionMmPerPix REAL, NominalLensMagnification REAL, ThumbnailImage BLOB, "
            "FocussingMethod TEXT)"
        )
        scan = (1, 1, "c", "", "", "", mpp / 1000, 20.0, jpeg(pixels[::16, ::16]), "1")
        base.execute("INSERT INTO SVHRScanDataXPO VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", scan)
        base.execute("CREATE TABLE SVScannedImageDataXPO (OID INTEGER, Image BLOB)")
        header = struct.pack("<5I", PIECE, width, height, 0, planes)
        rows = [("++MagicBytes", b"SVGigaPixelImage"), ("++VersionBytes", b"1.0.0"), ("Header", header)]
        base.executemany("INSERT INTO uid VALUES (?, ?, ?)", [(name, len(data), data) for name, data in rows])
        for level in range(levels):
            _sakura_level(base, pixels, 2**level, planes)
            pixels = halved(pixels)
    return path


def _sakura_level(base: sqlite3.Connection, pixels: RGB, factor: int, planes: int) -> None:
    height, width = pixels.shape[:2]
    for y in range(0, height, PIECE):
        for x in range(0, width, PIECE):
            tile = np.full((PIECE, PIECE, 3), 255, np.uint8)
            part = pixels[y : y + PIECE, x : x + PIECE]
            tile[: part.shape[0], : part.shape[1]] = part
            for colour in range(3):
                data = jpeg(np.ascontiguousarray(tile[..., colour]))
                for plane in range(planes):
                    name = f"T;{x * factor}|{y * factor};{factor};{colour};{plane}"
                    base.execute("INSERT INTO uid VALUES (?, ?, ?)", (name, len(data), data))
                    place = (name, factor, x * factor, y * factor, colour)
                    base.execute("INSERT INTO tile VALUES (?, ?, ?, ?, ?)", place)


def write_czi(
    path: Path, pixels: RGB, mpp: float, *, levels: int = 2, pixel_type: int = 3, compression: int = 0
) -> Path:
    """Zeiss CZI: sub-blocks of every level, their directory, and XML with the scale in metres.

    Args:
        pixels: (h, w, 3), or (channels, h, w) of grey ones for pixel type 0.
        pixel_type: 3 is 8-bit BGR, 0 is grey, as in fluorescence; 4, 16-bit BGR, is only declared.
        compression: 0 none, 1 JPEG, 4 JPEG XR, 5 Zstandard, 6 the same behind a header.
    """
    planes = [pixels] if pixel_type else list(pixels)
    height, width = planes[0].shape[:2]
    body, entries, start = b"", [], 544
    for channel, plane in enumerate(planes):
        for level in range(levels):
            step = PIECE * 2**level
            for y in range(0, height, step):
                for x in range(0, width, step):
                    part = plane[y >> level :, x >> level :][:PIECE, :PIECE]
                    data = _czi_pixels(np.ascontiguousarray(part), compression)
                    sides = min(PIECE, (width - x) >> level), min(PIECE, (height - y) >> level)
                    place = start + len(body)
                    entry = _czi_entry((x, y), sides, level, place, pixel_type, compression, channel)
                    block = struct.pack("<iiq", 0, 0, len(data)) + entry
                    body += _czi_segment("ZISRAWSUBBLOCK", block.ljust(256, b"\0") + data)
                    entries.append(entry)
            plane = halved(np.repeat(plane[..., None], 3, 2))[..., 0] if plane.ndim == 2 else halved(plane)
    directory = start + len(body)
    body += _czi_segment("ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    metadata = start + len(body)
    names = ("DAPI", "CD3", "CD8", "CK")[: len(planes)] if not pixel_type else ()
    xml = _czi_xml(width, height, mpp, {0: "Gray8", 3: "Bgr24", 4: "Bgr48"}[pixel_type], names).encode()
    body += _czi_segment("ZISRAWMETADATA", struct.pack("<ii248x", len(xml), 0) + xml)
    attachments = start + len(body)
    body += _czi_segment("ZISRAWATTDIR", bytes(256))
    head = struct.pack("<iiii32xiqqiq", 1, 0, 0, 0, 0, directory, metadata, 0, attachments)
    path.write_bytes(_czi_segment("ZISRAWFILE", head.ljust(512, b"\0")) + body)
    return path


def _czi_pixels(part: RGB, compression: int) -> bytes:
    """As stored: blue first, but for JPEG and JPEG XR."""
    if compression == 1:
        return jpeg(part)
    if compression == 4:
        return imagecodecs.jpegxr_encode(part, level=1.0)
    data = part[..., ::-1].tobytes() if part.ndim == 3 else part.tobytes()
    return {0: data, 5: imagecodecs.zstd_encode(data), 6: b"\x03\x01\x00" + imagecodecs.zstd_encode(data)}[compression]


def _czi_segment(kind: str, content: bytes) -> bytes:
    return struct.pack("<16sqq", kind.encode(), len(content), len(content)) + content


def _czi_entry(
    corner: tuple[int, int],
    sides: tuple[int, int],
    level: int,
    place: int,
    pixel_type: int,
    compression: int = 0,
    channel: int = 0,
) -> bytes:
    axes = [("X", corner[0], sides[0]), ("Y", corner[1], sides[1])] + [("C", channel, 1)] * (channel > 0)
    entry = struct.pack("<2siqiibb4xi", b"DV", pixel_type, place, 0, compression, 0, 0, len(axes))
    for name, at, stored in axes:
        entry += struct.pack("<4siifi", name.encode(), at, stored << level if name != "C" else 1, 0.0, stored)
    return entry


def _czi_xml(width: int, height: int, mpp: float, kind: str, channels: tuple[str, ...] = ()) -> str:
    distances = "".join(f'<Distance Id="{axis}"><Value>{mpp * 1e-6!r}</Value></Distance>' for axis in "XY")
    listed = "".join(f'<Channel Id="Channel:{k}" Name="{name}"><Fluor/></Channel>' for k, name in enumerate(channels))
    dimensions = f"<Dimensions><Channels>{listed}</Channels></Dimensions>" if channels else ""
    sizes = f"<SizeX>{width}</SizeX><SizeY>{height}</SizeY>"
    image = f"<Image><PixelType>{kind}</PixelType>{sizes}{dimensions}</Image>"
    scaling = f"<Scaling><Items>{distances}</Items></Scaling>"
    return f"<ImageDocument><Metadata><Information>{image}</Information>{scaling}</Metadata></ImageDocument>"
