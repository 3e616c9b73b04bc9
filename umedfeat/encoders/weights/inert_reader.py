"""Reads the module trees that torch.save writes, without executing anything.

The stream is interpreted by a machine of our own that knows some thirty operations and builds nothing but plain data:
numbers, strings, lists, dicts, named inert nodes, and views of tensors that are still unread. It has no operation that
imports or calls, so there is nothing a hostile stream could make it do; what it does not know it refuses by name.
"""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from umedfeat.errors import CheckpointRefused

__all__ = ["ClassName", "Node", "StorageRef", "TensorView", "read_next", "read_tree"]

#: The largest official encoder has a stream of 150 kB and 60 000 operations.
MAX_STREAM_BYTES = 4 << 20
_MAX_OPERATIONS = 1_000_000
_MAX_NAME = 300

#: Names that stand for data of known shape; everything else is either in an inert namespace or refused.
_REBUILD = {"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"}
_PLAIN = {"collections.OrderedDict", "__builtin__.set", "builtins.set", "__builtin__.getattr", "builtins.getattr"}
_STORAGES = {
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.DoubleStorage": "float64",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.BoolStorage": "bool",
}
_INERT = (
    "mmm.",
    "torchvision.models.",
    "torchvision.ops.",
    "timm.models.",
    "timm.layers.",
    "torch.nn.modules.",
    "pydantic.",
)
_NAMES = {operation.code.encode("latin-1"): operation.name for operation in pickletools.opcodes}
_CODES = {name: code for code, name in _NAMES.items()}
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def _read_global(stream: IO[bytes]) -> tuple[str, str]:
    """Two lines of plain text: a module and a name in it.

    The standard library's reader of them decodes escapes, which unpickling does not, and warns of unknown ones.
    """
    lines = [stream.readline(_MAX_NAME) for _ in range(2)]
    if not all(line.endswith(b"\n") for line in lines):
        raise ValueError("a name without an end")
    return lines[0][:-1].decode("ascii"), lines[1][:-1].decode("ascii")


#: What reads an operation's argument, by the operation's byte; None where it has none.
_READERS: dict[bytes, Callable[[IO[bytes]], Any] | None] = {
    operation.code.encode("latin-1"): operation.arg.reader if operation.arg else None
    for operation in pickletools.opcodes
} | {_CODES["GLOBAL"]: _read_global}


@dataclass(frozen=True)
class ClassName:
    """The name of a class or function; it is never imported."""

    name: str

    @property
    def inert(self) -> bool:
        """Does it belong to a namespace whose objects become Nodes?"""
        return self.name.startswith(_INERT)


@dataclass(eq=False)
class Node:
    """An object of an inert class: its name, what it was made from, its state."""

    kind: str
    args: tuple[Any, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict)

    @property
    def attributes(self) -> dict[Any, Any]:
        """The object's own attributes (pydantic keeps them one level deeper)."""
        inner = self.state.get("__dict__")
        return inner if isinstance(inner, dict) else self.state


@dataclass(frozen=True)
class StorageRef:
    """Bytes of a tensor in the archive: key, dtype, number of elements."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class TensorView:
    """A tensor that is not read yet."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_tree(stream: bytes, name: str) -> Any:
    """The object that a stream describes, as plain data.

    Args:
        stream: bytes of ``data.pkl``.
        name: of the file, for messages.

    Raises:
        CheckpointRefused: an unknown operation or name, or a damaged stream.
    """
    if len(stream) > MAX_STREAM_BYTES:
        raise CheckpointRefused(f"{name}: the object stream has {len(stream)} bytes, more than any known encoder")
    return read_next(io.BytesIO(stream), name)


def read_next(stream: IO[bytes], name: str) -> Any:
    """As ``read_tree``; the stream, of at most ``MAX_STREAM_BYTES``, then stands behind the object."""
    machine = _Machine(name)
    try:
        machine.run(stream)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeDecodeError, AttributeError) as error:
        raise CheckpointRefused(f"{name}: the object stream is damaged ({type(error).__name__})") from error
    return machine.result()


class _Mark:
    """A place on the stack."""


class _Machine:
    """The stack machine. Each operation is a method; an operation without one is refused.

    UMedPT's file takes 60,000 operations before the first weight is read: here a call less counts.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._done = False
        operations: dict[str, Callable[[Any], None]] = {
            "PROTO": self._protocol,
            "STOP": self._stop,
            "MARK": lambda _: self._stack.append(_Mark()),
            "NONE": lambda _: self._stack.append(None),
            "NEWTRUE": lambda _: self._stack.append(True),
            "NEWFALSE": lambda _: self._stack.append(False),
            "EMPTY_DICT": lambda _: self._stack.append({}),
            "EMPTY_LIST": lambda _: self._stack.append([]),
            "EMPTY_TUPLE": lambda _: self._stack.append(()),
            "TUPLE": lambda _: self._stack.append(tuple(self._to_mark())),
            "TUPLE1": lambda _: self._tuple(1),
            "TUPLE2": lambda _: self._tuple(2),
            "TUPLE3": lambda _: self._tuple(3),
            "BINPUT": self._put,
            "LONG_BINPUT": self._put,
            "BINGET": self._get,
            "LONG_BINGET": self._get,
            "APPEND": self._append,
            "APPENDS": self._appends,
            "SETITEM": self._set_item,
            "SETITEMS": self._set_items,
            "GLOBAL": self._global,
            "NEWOBJ": self._new_object,
            "REDUCE": self._reduce,
            "BUILD": self._build,
            "BINPERSID": self._persistent,
            "LONG1": self._long,
        }
        for literal in ("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE"):
            operations[literal] = self._stack.append
        self._operations = {_CODES[name]: (perform, _READERS[_CODES[name]]) for name, perform in operations.items()}

    def run(self, stream: IO[bytes]) -> None:
        """Do what the stream says, to the end of the object."""
        operations, read = self._operations, stream.read
        for _ in range(_MAX_OPERATIONS):
            code = read(1)
            if code not in operations:
                raise self._unknown(code)
            perform, argument = operations[code]
            perform(None if argument is None else argument(stream))
            if self._done:
                return
        raise self.refused("too many operations")

    def _unknown(self, code: bytes) -> Exception:
        if code in _NAMES:
            return self.refused(f"operation {_NAMES[code]}")
        return ValueError("the stream ends" if not code else f"no operation {code!r}")

    def result(self) -> Any:
        if not self._done or len(self._stack) != 1:
            raise self.refused("an unfinished object")
        return self._stack[0]

    def refused(self, what: str) -> CheckpointRefused:
        return CheckpointRefused(
            f"{self._name}: refused: {what[:120]}",
            remedy="nothing was executed; get the file from its publisher, or convert a trusted one to safetensors",
        )

    def _protocol(self, version: int) -> None:
        if version != 2:
            raise self.refused(f"protocol {version}")

    def _stop(self, _: Any) -> None:
        self._done = True

    def _long(self, value: int) -> None:
        if abs(value) >= 2**63:
            raise self.refused("an integer of more than 64 bits")
        self._stack.append(value)

    def _to_mark(self) -> list[Any]:
        for place in range(len(self._stack) - 1, -1, -1):
            if type(self._stack[place]) is _Mark:
                values = self._stack[place + 1 :]
                del self._stack[place:]
                return values
        raise self.refused("a missing mark")

    def _pop(self) -> Any:
        value = self._stack.pop()
        if type(value) is _Mark:
            raise self.refused("a misplaced mark")
        return value

    def _tuple(self, count: int) -> None:
        values = tuple(self._stack[-count:])
        if len(values) < count:
            raise IndexError("too few values")
        if any(type(value) is _Mark for value in values):
            raise self.refused("a misplaced mark")
        self._stack[-count:] = [values]

    def _put(self, place: int) -> None:
        if type(self._stack[-1]) is _Mark:
            raise self.refused("a misplaced mark")
        self._memo[place] = self._stack[-1]

    def _get(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def _append(self, _: Any) -> None:
        value = self._pop()
        self._list().append(value)

    def _appends(self, _: Any) -> None:
        values = self._to_mark()
        self._list().extend(values)

    def _list(self) -> list[Any]:
        if type(self._stack[-1]) is not list:
            raise self.refused("appending to something that is not a list")
        target: list[Any] = self._stack[-1]
        return target

    def _set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._dict()[self._key(key)] = value

    def _set_items(self, _: Any) -> None:
        values = self._to_mark()
        if len(values) % 2:
            raise self.refused("a key without a value")
        target = self._dict()
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[self._key(key)] = value

    def _dict(self) -> dict[Any, Any]:
        if type(self._stack[-1]) is not dict:
            raise self.refused("setting items of something that is not a dict")
        target: dict[Any, Any] = self._stack[-1]
        return target

    def _key(self, key: Any) -> Any:
        if not isinstance(key, (str, int, float, bool, type(None))):
            raise self.refused(f"a {type(key).__name__} as a key")
        return key

    def _global(self, names: tuple[str, str]) -> None:
        module, attribute = names
        name = f"{module}.{attribute}"
        known = name in _REBUILD or name in _PLAIN or name in _STORAGES or ClassName(name).inert
        if not known or not _NAME.fullmatch(module) or not attribute.isidentifier():
            raise self.refused(f"the name {name}")
        self._stack.append(ClassName(name))

    def _new_object(self, _: Any) -> None:
        args, kind = self._pop(), self._pop()
        if not isinstance(kind, ClassName) or not kind.inert or not isinstance(args, tuple):
            raise self.refused(f"making an object of {_described(kind)}")
        self._stack.append(Node(kind.name, args))

    def _reduce(self, _: Any) -> None:
        args, function = self._pop(), self._pop()
        if not isinstance(function, ClassName) or not isinstance(args, tuple):
            raise self.refused(f"calling {_described(function)}")
        self._stack.append(self._described_call(function, args))

    def _described_call(self, function: ClassName, args: tuple[Any, ...]) -> Any:
        """What a call would have made, as data."""
        if function.name == "torch._utils._rebuild_tensor_v2":
            return self._tensor(args)
        if function.name == "torch._utils._rebuild_parameter" and args and isinstance(args[0], TensorView):
            return args[0]
        if function.name == "collections.OrderedDict" and not args:
            return {}
        if function.name.endswith(".set") and len(args) == 1 and isinstance(args[0], list):
            return args[0]  # no copy: a thousand sets of one long list stay one list
        if function.name.endswith(".getattr"):
            return self._nested_class(args)
        if function.inert:
            return Node(function.name, args)
        raise self.refused(f"calling {function.name} with {len(args)} arguments")

    def _nested_class(self, args: tuple[Any, ...]) -> ClassName:
        """A class inside of a class (a config of a module): a longer name, nothing else."""
        outer, attribute = args if len(args) == 2 else (None, None)
        inner = isinstance(attribute, str) and attribute.isidentifier() and not attribute.startswith("_")
        short = isinstance(outer, ClassName) and len(outer.name) + len(str(attribute)[:_MAX_NAME]) < _MAX_NAME
        if inner and short and isinstance(outer, ClassName) and outer.inert:
            return ClassName(f"{outer.name}.{attribute}")
        raise self.refused("getattr on something else than a nested class")

    def _tensor(self, args: tuple[Any, ...]) -> TensorView:
        storage, offset, size, stride = args[:4]
        if not isinstance(storage, StorageRef) or not _whole(offset):
            raise self.refused("a tensor without storage")
        if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 8):
            raise self.refused("a tensor whose size and stride do not fit")
        if not all(map(_whole, (*size, *stride))):
            raise self.refused("a tensor with a negative size or stride")
        return TensorView(storage, offset, size, stride)

    def _build(self, _: Any) -> None:
        state = self._pop()
        target = self._stack[-1]
        if isinstance(target, Node) and isinstance(state, dict) and not target.state:
            target.state = state  # no copy: a thousand objects of one large state stay one dict
        elif isinstance(target, dict) and isinstance(state, dict):
            return  # attributes of an OrderedDict (version metadata) carry nothing
        else:
            raise self.refused(f"giving a state to {_described(target)}")

    def _persistent(self, _: Any) -> None:
        entry = self._pop()
        if isinstance(entry, tuple) and len(entry) == 6 and entry[5] is None:  # before torch 1.6; of no part of another
            entry = entry[:5]
        if not (isinstance(entry, tuple) and len(entry) == 5 and entry[0] == "storage"):
            raise self.refused("a reference to something else than a storage")
        _, kind, key, _, numel = entry
        if not isinstance(kind, ClassName) or kind.name not in _STORAGES:
            raise self.refused(f"a storage of {_described(kind)}")
        if not isinstance(key, str) or not re.fullmatch(r"[0-9]{1,20}", key) or not _whole(numel):
            raise self.refused("a storage with a strange key or length")
        self._stack.append(StorageRef(key, _STORAGES[kind.name], numel))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40


def _described(thing: Any) -> str:
    return thing.name if isinstance(thing, ClassName) else type(thing).__name__
