"""The rooms of docs/architecture.md, held to by the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import penchant
from tests.conftest import ROOT

SOURCE = ROOT / "src" / "penchant"
HEAVY = {
    "torch",
    "transformers",
    "sentence_transformers",
    "scipy",
    "matplotlib",
    "datasets",
    "pyarrow",
    "accelerate",
    "peft",
}
MAY_IMPORT = {
    "types": set(),
    "errors": set(),
    "files": set(),
    "text": set(),
    "config": set(),
    "runtime": set(),
    "forks": set(),
    "extras": {"errors"},
    "servers": {"config", "errors", "text"},
    "models": {"config", "errors", "files", "runtime"},
    "extract": {"errors", "extras", "types", "models", "runtime", "servers", "text"},
    "memory": {"errors", "forks", "types"},
    "retrieve": {"errors", "extras", "models", "runtime", "servers", "text", "types"},
    "learn": {"errors", "servers", "types"},
    "prompt": {"text"},
    "session": {"errors", "learn", "memory", "types"},
    "consider": {"learn", "memory", "retrieve", "session", "types"},
    "reading": {"errors", "extract", "forks", "learn", "memory", "session", "text", "types"},
    "loop": {
        "chat",
        "consider",
        "errors",
        "extract",
        "learn",
        "memory",
        "prompt",
        "reading",
        "retrieve",
        "session",
        "text",
        "types",
        "wiring",
    },
    "chat": {"errors"},
    "wiring": {"config", "errors", "extract", "learn", "loop", "memory", "models", "retrieve", "session", "types"},
    "data": {"config", "errors", "extras", "extract", "files", "servers", "text", "types"},
    "train": {"data", "errors", "extras", "extract", "files", "models", "runtime", "text", "types"},
    "evaluate": {
        "data",
        "errors",
        "extras",
        "extract",
        "files",
        "learn",
        "memory",
        "models",
        "retrieve",
        "runtime",
        "text",
        "types",
    },
    "simulate": {
        "data",
        "errors",
        "evaluate",
        "extract",
        "extras",
        "files",
        "learn",
        "loop",
        "memory",
        "models",
        "prompt",
        "retrieve",
        "session",
        "testing",
        "types",
    },
    "testing": {"extract", "memory", "types", "errors"},
    "cli": {
        "chat",
        "config",
        "data",
        "errors",
        "evaluate",
        "extract",
        "files",
        "loop",
        "memory",
        "models",
        "servers",
        "session",
        "simulate",
        "text",
        "train",
        "types",
        "wiring",
    },
}
MAY_USE_TORCH = {
    "extract/transformers.py",
    "retrieve/embed.py",
    "retrieve/rerank.py",
    "data",
    "train",
    "evaluate",
    "simulate",
}

MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.stem in MAY_IMPORT)


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_follow_the_plan(path: Path) -> None:
    place = path.relative_to(SOURCE)
    room = place.parts[0].removesuffix(".py")
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("penchant.")}
    assert ours - {room} <= MAY_IMPORT[room]
    if not {place.parts[0], str(place)} & MAY_USE_TORCH:
        assert not {name.split(".")[0] for name in imports(path)} & HEAVY


def test_public_names_are_listed_and_there() -> None:
    assert sorted(penchant.__all__) == penchant.__all__
    assert all(hasattr(penchant, name) for name in penchant.__all__)
    assert (SOURCE / "py.typed").exists()


def test_every_module_stands_in_the_picture() -> None:
    picture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    unnamed = ("__init__.py", "__main__.py", "py.typed", "__pycache__")
    rooms = [path for path in SOURCE.iterdir() if path.name not in unnamed]
    missing = [room.name for room in rooms if room.name not in picture]
    for room in ("extract", "models", "memory", "retrieve", "learn", "data", "train", "evaluate", "simulate"):
        missing += [path.name for path in (SOURCE / room).glob("*.py") if path.name not in picture]
    assert missing == []
