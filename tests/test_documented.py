"""Every public name says what it is: a docstring of its own, or that of the protocol or base class which it fulfils."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "umedfeat"
#: What the base classes of torch and scikit-learn say of their methods holds for ours.
OF_LIBRARIES = {"forward", "fit", "predict", "predict_proba", "convert"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def _trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def _classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for path, tree in _trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield path, node


def _methods(cls: ast.ClassDef) -> Iterator[Function]:
    for node in cls.body:
        if isinstance(node, Function) and (not node.name.startswith("_") or node.name == "__call__"):
            yield node


def _says(cls: ast.ClassDef, method: Function) -> bool:
    """A docstring of its own, or a word in that of its class."""
    return bool(ast.get_docstring(method)) or bool(re.search(rf"\b{method.name}\b", ast.get_docstring(cls) or ""))


def _is_protocol(cls: ast.ClassDef) -> bool:
    return bool({"Protocol", "ABC"} & {ast.unparse(base).split("[")[0] for base in cls.bases})


def test_public_names_are_documented() -> None:
    promised = {m.name for _, c in _classes() if _is_protocol(c) for m in _methods(c) if _says(c, m)} | OF_LIBRARIES
    silent: list[str] = []
    for path, tree in _trees().items():
        if not ast.get_docstring(tree) and path.name != "__main__.py":
            silent.append(str(path))
        for node in tree.body:
            is_public = isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
            if is_public and not ast.get_docstring(node):
                silent.append(f"{path.relative_to(PACKAGE)}: {node.name}")
    for path, cls in _classes():
        if not cls.name.startswith("_"):
            silent += [
                f"{path.relative_to(PACKAGE)}: {cls.name}.{method.name}"
                for method in _methods(cls)
                if not _says(cls, method) and (method.name not in promised or _is_protocol(cls))
            ]
    assert not silent
