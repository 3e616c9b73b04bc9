"""The house: rooms stand on floors, imports only go down, and no file leads back to itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "umedfeat"

#: From the ground up. Rooms of one floor do not know each other.
FLOORS: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "arrays errors machine _version",
        "disk rules squares remote",
        "keys",
        "policy naming",
        "contract",
        "terminal",
        "store encoders",
        "readers fewshot",
        "discovery engine prediction",
        "pretraining",
        "report",
        "extraction",
        "workflows",
        "demo doctor",
        "cli",
    )
)
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
#: The roof: the public names, imported on first use.
ROOF = {"__init__", "__main__"}


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in PACKAGE.rglob("*.py")}


def _imported(module: str) -> Iterator[str]:
    """Modules of the package that a module imports, at its top or on first use; not what only type checkers read."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield from (found for found in [name if name in MODULES else str(node.module)] if found in MODULES)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def _room(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def test_every_room_stands_on_a_floor() -> None:
    rooms = {_room(module) for module in MODULES} - ROOF
    assert rooms <= HEIGHT.keys()


def test_imports_only_go_down() -> None:
    upward = [
        f"{module} imports {other}"
        for module in MODULES
        if _room(module) not in ROOF
        for other in _imported(module)
        if _room(other) not in {_room(module), *ROOF} and HEIGHT[_room(other)] >= HEIGHT[_room(module)]
    ]
    assert not upward


def _circles() -> list[set[str]]:
    """Strongly connected modules (Tarjan's algorithm). A package's ``__init__`` counts as a module of its own."""
    graph = {module: set(_imported(module)) - {module} for module in MODULES}
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in graph[module]:
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            circle = set(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            if len(circle) > 1:
                found.append(circle)

    for module in graph:
        if module not in number:
            visit(module)
    return found


def test_no_file_leads_back_to_itself() -> None:
    assert not _circles()


def test_files_fit_a_readers_patience() -> None:
    long = {module: count for module, path in MODULES.items() if (count := path.read_text().count("\n")) >= 500}
    assert not long
