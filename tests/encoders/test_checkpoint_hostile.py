"""Hostile weights files: all refused by name, nothing executed, memory bounded."""

from __future__ import annotations

import ast
import collections
import functools
import io
import os
import pickle
import pickletools
import random
import stat
import struct
import subprocess
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lookalike import (
    read_members,
    rewritten,
    saved,
    stub_modules,
    tiny_squeezer,
    tiny_swin,
    write_archive,
    write_official,
)
from torch import nn

from umedfeat.encoders.config import Checkpoint
from umedfeat.encoders.weights.checkpoint import read_checkpoint
from umedfeat.encoders.weights.inert_reader import Node, _Machine, read_tree
from umedfeat.errors import CheckpointRefused

PACKAGE = Path(__file__).resolve().parents[2] / "umedfeat"


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "official.pt.zip"
    write_official(path)
    return path


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def with_stream(official: Path, path: Path, stream: bytes, member: str = "encoder.pt") -> Path:
    """The official look-alike with another object stream inside."""
    members = {**members_of(official)}
    members[member] = rewritten(members[member], {"data.pkl": stream})
    return write_archive(path, members, zipfile.ZIP_STORED)


members_of = functools.cache(read_members)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointRefused) as caught:
        read_checkpoint(path)
    return str(caught.value)


CANARY = "touch canary-was-executed"
STREAMS: dict[str, Callable[[], bytes]] = {
    "os.system, protocol 2": lambda: pickle.dumps(Calls(os.system, CANARY), 2),
    "os.system, protocol 4": lambda: pickle.dumps(Calls(os.system, CANARY), 4),
    "os.system, protocol 0": lambda: pickle.dumps(Calls(os.system, CANARY), 0),
    "eval": lambda: pickle.dumps(Calls(eval, "__import__('os').system('touch canary-was-executed')"), 2),
    "exec": lambda: pickle.dumps(Calls(exec, "open('canary-was-executed', 'w')"), 2),
    "Popen": lambda: pickle.dumps(Calls(subprocess.Popen, ["touch", "canary-was-executed"]), 2),
    "getattr chain": lambda: pickle.dumps(Calls(getattr, "x", "upper"), 2),
    "getattr on an allowed class": lambda: (
        b"\x80\x02c__builtin__\ngetattr\nctorch.nn.modules.linear\nLinear\nX\x08\x00\x00\x00__init__\x86R."
    ),
    "dotted name": lambda: b"\x80\x04\x8c\x02os\x8c\x0bpath.abspath\x93.",
    "dotted GLOBAL": lambda: b"\x80\x02ctorch.nn.modules.linear\nLinear.__init__\n.",
    "escapes in a name": lambda: b"\x80\x02ctorch.nn.modules.linear\nLin\\qear\n.",
    "escapes that make a known name": lambda: b"\x80\x02ctorch.nn.modules.linear\nLin\\x65ar\n.",
    "a name without an end": lambda: b"\x80\x02ctorch.nn.modules.linear\n" + b"L" * 5000,
    "torch.hub.load": lambda: pickle.dumps(Calls(torch.hub.load, "a/b", "c"), 2),
    "functools.partial": lambda: pickle.dumps(functools.partial(os.system, CANARY), 2),
    "BUILD on a function": lambda: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__code__NNs\x30b.",
    "BUILD on a class": lambda: b"\x80\x02ctorch.nn.modules.linear\nLinear\n}X\x01\x00\x00\x00aK\x01sb.",
    "INST": lambda: b"(S'touch canary-was-executed'\nios\nsystem\n.",
    "OBJ": lambda: b"(cos\nsystem\nS'touch canary-was-executed'\no.",
    "EXT1": lambda: b"\x80\x02\x82\x01.",
    "OBJ on an inert class": lambda: b"\x80\x02(ctorch.nn.modules.linear\nLinear\no.",
    "EXT2": lambda: b"\x80\x02\x83\x01\x00.",
    "EXT4": lambda: b"\x80\x02\x84\x01\x00\x00\x00.",
    "getattr of getattr": lambda: pickle.dumps(Calls(getattr, getattr, "__call__"), 2),
    "getattr to a private name": lambda: (
        b"\x80\x02c__builtin__\ngetattr\nctorch.nn.modules.linear\nLinear\nX\x08\x00\x00\x00_getattr\x86R."
    ),
    "getattr on a module of torch": lambda: (
        b"\x80\x02c__builtin__\ngetattr\nctorch._utils\n_rebuild_tensor_v2\nX\x04\x00\x00\x00call\x86R."
    ),
    "BUILD with slots": lambda: b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81N}X\x01\x00\x00\x00aK\x01s\x86b.",
    "PERSID": lambda: b"\x80\x02Pstorage\n.",
    "a persistent id that is no storage": lambda: b"\x80\x02X\x03\x00\x00\x00abcQ.",
    "LONG4 bomb": lambda: b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\xff" * 64 + b".",
    "LONG1 of 255 bytes": lambda: b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".",
    "a string longer than the stream": lambda: b"\x80\x02X\xff\xff\xff\x7fabc.",
    "nested stream": lambda: pickle.dumps(Calls(pickle.loads, pickle.dumps(Calls(os.system, CANARY))), 2),
    "collections with arguments": lambda: pickle.dumps(collections.OrderedDict([(1, Calls(os.system, CANARY))]), 2),
    "a plain number": lambda: pickle.dumps(42, 2),
    "a list of itself": lambda: b"\x80\x02]q\x00h\x00a.",
    "unhashable key": lambda: b"\x80\x02}]K\x01s.",
    "stack underflow": lambda: b"\x80\x02R.",
    "memo from nowhere": lambda: b"\x80\x02h\x05.",
    "no stop": lambda: b"\x80\x02]",
    "empty": lambda: b"",
    "bytes behind the end": lambda: b"\x80\x02N.\x80\x02N.",
    "an inert object of the wrong class": lambda: b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81}b.",
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("member", ["encoder.pt", "squeezer.pt"])
def test_hostile_streams(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, member: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = with_stream(official, tmp_path / "bad.pt.zip", STREAMS[name](), member)
    refused(path)
    assert not (tmp_path / "canary-was-executed").exists()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


LINEAR = b"ctorch.nn.modules.linear\nLinear\n"
#: Streams that would grow without end where references are copied: a few hundred kB each.
BOMBS: dict[str, bytes] = {
    "names": b"c__builtin__\ngetattr\nq\x00" + LINEAR + (b"q\x01h\x00h\x01" + text("a" * 90) + b"\x86R") * 4000,
    "sets": b"c__builtin__\nset\nq\x00](" + b"N" * 100_000 + b"eq\x01" + b"h\x00h\x01\x85R" * 20_000,
    "states": LINEAR
    + b"q\x00}("
    + b"".join(b"J" + struct.pack("<i", k) + b"N" for k in range(20_000))
    + b"uq\x01"
    + b"h\x00)\x81h\x01b" * 20_000,
    "states twice": LINEAR + b")\x81}K\x01Nsb}K\x02Nsb",
    "operations": b"N0" * 1_000_000,
    "long": b"N" * (5 << 20),
}


@pytest.mark.parametrize("name", BOMBS)
def test_streams_that_grow(official: Path, tmp_path: Path, name: str) -> None:
    path = with_stream(official, tmp_path / "bad.pt.zip", b"\x80\x02" + BOMBS[name] + b".")
    tracemalloc.start()
    refused(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_only_the_needed_operations_are_known() -> None:
    """Whatever pickle learns one day is refused until it is understood."""
    names = {operation.code.encode("latin-1"): operation.name for operation in pickletools.opcodes}
    known = {names[code] for code in _Machine("x")._operations}
    dangerous = {
        "INST",
        "OBJ",
        "EXT1",
        "EXT2",
        "EXT4",
        "STACK_GLOBAL",
        "NEWOBJ_EX",
        "PERSID",
        "LONG4",
        "FRAME",
        "BINBYTES",
    }
    assert not known & dangerous
    assert len(known) < 40


def with_module(official: Path, path: Path, build: Callable[[dict[str, type]], Any], member: str) -> Path:
    """The official look-alike with another module inside."""
    with stub_modules() as classes:
        data = saved(build(classes))
    return write_archive(path, {**read_members(official), member: data})


def encoder_of(network: Any) -> Callable[[dict[str, type]], Any]:
    def build(classes: dict[str, type]) -> Any:
        encoder = classes["PyramidEncoder"]()
        encoder.model = network
        return encoder

    return build


def test_modules_that_hold_one_another(official: Path, tmp_path: Path) -> None:
    """Two references to the same child at each of forty levels: a walk without a limit takes 2⁴⁰ steps."""
    module = nn.Identity()
    for _ in range(40):
        module = nn.ModuleDict({"one": module, "two": module})  # type: ignore[assignment]
    assert "more modules" in refused(with_module(official, tmp_path / "bad.pt.zip", encoder_of(module), "encoder.pt"))


def test_modules_nested_deeply(official: Path, tmp_path: Path) -> None:
    module = nn.Identity()
    for _ in range(60):
        module = nn.ModuleDict({"one": module})  # type: ignore[assignment]
    assert "too deeply" in refused(with_module(official, tmp_path / "bad.pt.zip", encoder_of(module), "encoder.pt"))


def test_names_of_modules_are_short(official: Path, tmp_path: Path) -> None:
    module = nn.ModuleDict({"a" * 5000: nn.Linear(1, 1)})
    assert "strange name" in refused(with_module(official, tmp_path / "bad.pt.zip", encoder_of(module), "encoder.pt"))


def test_many_tensors_of_one_storage(official: Path, tmp_path: Path) -> None:
    """A thousand views of four megabytes of zeros are a file of some kilobytes."""

    def build(classes: dict[str, type]) -> Any:
        squeezer: Any = classes["Squeezer"]()
        for name, part in tiny_squeezer(64, 16, "pool").items():
            setattr(squeezer, name, part)
        zeros = torch.zeros(1 << 20)
        for number in range(1000):
            squeezer.norm.register_buffer(f"more{number}", zeros)
        return squeezer

    path = with_module(official, tmp_path / "bad.pt.zip", build, "squeezer.pt")
    assert "larger than the file" in refused(path)


@pytest.mark.parametrize("sides", [[(8, 8), 8], "doubling", [8, True], [8], "8", [10**6, 10**6], [0, 0], [-8, -8]])
def test_windows_that_are_none(official: Path, tmp_path: Path, sides: Any) -> None:
    """What a file says is never compared, hashed or told unless it is two whole numbers."""
    if sides == "doubling":
        sides = ()
        for _ in range(60):
            sides = (sides, sides)
    network = tiny_swin()
    for place in (1, 3, 5, 7):
        for number, block in enumerate(network.features[place]):
            block.attn.window_size = sides
            half = sides[0] // 2 if isinstance(sides, list) and type(sides[0]) is int else 0
            block.attn.shift_size = [half * (number % 2)] * 2
    wrapped = encoder_of(nn.ModuleDict({"wrapped_model": network}))
    refused(with_module(official, tmp_path / "bad.pt.zip", wrapped, "encoder.pt"))


def test_the_object_stream_cut_at_every_place(official: Path) -> None:
    inner = zipfile.ZipFile(io.BytesIO(read_members(official)["squeezer.pt"]))
    stream = inner.read(next(name for name in inner.namelist() if name.endswith("data.pkl")))
    assert isinstance(read_tree(stream, "x"), Node)
    for place in range(len(stream)):
        with pytest.raises(CheckpointRefused):
            read_tree(stream[:place], "x")


def test_a_sound_stream_with_one_appended_call(official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    member = read_members(official)["encoder.pt"]
    inner = zipfile.ZipFile(io.BytesIO(member))
    stream = inner.read(next(name for name in inner.namelist() if name.endswith("data.pkl")))
    call = b"cposix\nsystem\nX\x19\x00\x00\x00touch canary-was-executed\x85R0."
    message = refused(with_stream(official, tmp_path / "bad.pt.zip", stream[:-1] + call))
    assert "posix.system" in message
    assert not (tmp_path / "canary-was-executed").exists()


def test_the_offending_name_is_told(official: Path, tmp_path: Path) -> None:
    stream = pickle.dumps(Calls(subprocess.Popen, ["x"]), 2)
    assert ".Popen" in refused(with_stream(official, tmp_path / "bad.pt.zip", stream))


def tensor_file(tmp_path: Path, official: Path, change: Callable[[bytes], bytes]) -> Path:
    members = read_members(official)
    inner = zipfile.ZipFile(io.BytesIO(members["squeezer.pt"]))
    stream = inner.read(next(name for name in inner.namelist() if name.endswith("data.pkl")))
    changed = change(stream)
    assert changed != stream
    return with_stream(official, tmp_path / "bad.pt.zip", changed, "squeezer.pt")


def test_a_view_that_leaves_its_storage(official: Path, tmp_path: Path) -> None:
    # norm.weight: size (16,) stride (1,) → size (17,): one element more than there is
    path = tensor_file(tmp_path, official, lambda s: s.replace(b"K\x10\x85q", b"K\x11\x85q", 1))
    assert "leaves its storage" in refused(path)


def test_a_stride_that_leaves_the_storage(official: Path, tmp_path: Path) -> None:
    path = tensor_file(tmp_path, official, lambda s: s.replace(b"K\x01\x85q", b"K\x05\x85q", 1))
    assert "leaves its storage" in refused(path)


def test_a_storage_that_lies_about_its_size(official: Path, tmp_path: Path) -> None:
    members = read_members(official)
    members["squeezer.pt"] = rewritten(members["squeezer.pt"], {"data/0": b"\0" * 4})
    assert "storage 0" in refused(write_archive(tmp_path / "bad.pt.zip", members))


def test_a_storage_key_that_leaves_the_archive(official: Path, tmp_path: Path) -> None:
    path = tensor_file(tmp_path, official, lambda s: s.replace(b"X\x01\x00\x00\x000q", b"X\x04\x00\x00\x00../0q", 1))
    refused(path)


def test_big_endian_is_refused(official: Path, tmp_path: Path) -> None:
    members = read_members(official)
    members["encoder.pt"] = rewritten(members["encoder.pt"], {"byteorder": b"big"})
    assert "little-endian" in refused(write_archive(tmp_path / "bad.pt.zip", members))


@pytest.mark.parametrize("name", ["../encoder.pt", "/etc/encoder.pt", "a/../../encoder.pt", "C:\\encoder.pt"])
def test_paths_that_leave_the_archive(official: Path, tmp_path: Path, name: str) -> None:
    refused(write_archive(tmp_path / "bad.pt.zip", {**read_members(official), name: b"x"}))


def test_duplicate_members(official: Path, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "bad.pt.zip", read_members(official))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("encoder.pt", b"another")
    assert "twice" in refused(path)


def test_links(official: Path, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "bad.pt.zip", read_members(official))
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, "/etc/passwd")
    assert "a link" in refused(path)


def test_encrypted_members(official: Path, tmp_path: Path) -> None:
    data = bytearray(write_archive(tmp_path / "bad.pt.zip", read_members(official)).read_bytes())
    place = data.rfind(b"PK\1\2")
    data[place + 8] |= 1
    (tmp_path / "bad.pt.zip").write_bytes(data)
    assert "encrypted" in refused(tmp_path / "bad.pt.zip")


def test_a_module_inside_of_a_module(official: Path, tmp_path: Path) -> None:
    members = read_members(official)
    members["encoder.pt"] = official.read_bytes()
    refused(write_archive(tmp_path / "bad.pt.zip", members))


def test_other_members_are_never_opened(official: Path, tmp_path: Path) -> None:
    members = {**read_members(official), "decoder.pt": saved({"a": 1})[:50], "task.pt": b"rubbish"}
    assert isinstance(read_checkpoint(write_archive(tmp_path / "fine.pt.zip", members)), Checkpoint)


def test_a_zip_bomb_costs_no_memory(tmp_path: Path, official: Path) -> None:
    bomb = write_archive(
        tmp_path / "bad.pt.zip", {**read_members(official), "encoder.pt": b"PK\3\4" + bytes(200 << 20)}
    )
    assert bomb.stat().st_size < 1 << 20
    tracemalloc.start()
    refused(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_a_member_that_lies_about_its_size_in_zip64(official: Path, tmp_path: Path) -> None:
    data = bytearray(official.read_bytes())
    place = data.find(b"PK\1\2")
    data[place + 24 : place + 28] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "bad.pt.zip").write_bytes(data)
    refused(tmp_path / "bad.pt.zip")


def test_truncation_at_every_tenth_byte(tmp_path: Path) -> None:
    path = tmp_path / "cut.pt.zip"
    write_official(path, depths=(2,), window=2)
    size = path.stat().st_size
    assert isinstance(read_checkpoint(path), Checkpoint)
    for place in reversed(range(0, size, 10)):
        os.truncate(path, place)
        refused(path)


def test_flipped_bytes_are_refused_or_harmless(official: Path, tmp_path: Path, seed: int) -> None:
    data = official.read_bytes()
    generator = random.Random(seed)
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(generator.choice([1, 1, 4])):
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        (tmp_path / "flip.pt.zip").write_bytes(damaged)
        try:
            assert isinstance(read_checkpoint(tmp_path / "flip.pt.zip"), Checkpoint)
        except CheckpointRefused:
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error


def test_flipped_bytes_of_the_object_stream(official: Path, tmp_path: Path, seed: int) -> None:
    """The checksum of the zip would catch most flips; here it is right."""
    inner = zipfile.ZipFile(io.BytesIO(read_members(official)["squeezer.pt"]))
    stream = inner.read(next(name for name in inner.namelist() if name.endswith("data.pkl")))
    generator = random.Random(seed)
    for _ in range(150):
        damaged = bytearray(stream)
        damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path = with_stream(official, tmp_path / "flip.pt.zip", bytes(damaged), "squeezer.pt")
        try:
            assert isinstance(read_checkpoint(path), Checkpoint)
        except CheckpointRefused:
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error


#: How calls that could unpickle end: others need no closer look.
CALLS = {"load", "eval", "exec", "__import__", "read_pickle"}


def _last_name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def unpicklings(source: str) -> list[str]:
    """Places of a Python source that could unpickle, or hide that they do."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [name for name in modules if name.partition(".")[0] in UNPICKLERS or "serialization" in name]
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in {"torch", "numpy"}:
                found += [alias.name for alias in node.names if alias.name == "load"]
        elif isinstance(node, ast.Call):
            if _last_name(node.func) not in CALLS and "allow_pickle" not in {each.arg for each in node.keywords}:
                continue
            called = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            unsafe = called == "torch.load" and keywords.get("weights_only") != "True"
            allowed = keywords.get("allow_pickle", "False") != "False"
            runs = called in {"eval", "exec", "__import__", "torch.jit.load", "torch.hub.load"}
            if unsafe or allowed or runs or called.endswith(("read_pickle", "serialization.load")):
                found.append(called)
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import io, pickle",
        "def f():\n    from pickle import loads",
        "import joblib",
        "from torch import load",
        "from torch.serialization import load",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.load(\n    p,\n    weights_only=flag,\n)",
        "np.load(p, allow_pickle=True)",
        "pd.read_pickle(p)",
        "__import__('pickle').loads(b)",
        "torch.jit.load(p)",
    ],
)
def test_the_search_finds_what_unpickles(source: str) -> None:
    assert unpicklings(source)


def test_no_other_place_unpickles() -> None:
    """Not even the reader of official files does."""
    sources = list(PACKAGE.rglob("*.py"))
    assert len(sources) > 50
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert not unpicklings(text), path
        assert "weights_only=False" not in text, path
    assert not unpicklings("torch.load(p, weights_only=True, map_location='cpu')\nimport pickletools")
