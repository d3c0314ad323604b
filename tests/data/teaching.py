"""What the tests of labelling share: a server, teachers that ask it, and a process to be killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penchant.data.teacher import Teacher
from penchant.types import Turn, Window
from tests.data.teacher_server import PATIENCE, TeacherServer, serving

FAILED = "out.failed.jsonl"

KEY = "sk-do-not-tell-anyone"

CLIENT = "import typer; from penchant.cli.data_label import label; app = typer.Typer(); app.command()(label); app()"


@pytest.fixture
def server() -> Iterator[TeacherServer]:
    with serving() as server:
        yield server


@pytest.fixture
def teacher(server: TeacherServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Teacher]]:
    """Make a teacher with a work folder that all share."""
    monkeypatch.setenv("PENCHANT_API_KEY", KEY)
    made: list[Teacher] = []

    def make(model: str = "m", **options: Any) -> Teacher:
        options = {"base_url": server.url, "retries": 2, "timeout": PATIENCE, "poll_interval": 0.01, **options}
        made.append(Teacher(model, tmp_path / "work", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


Make = Callable[..., Teacher]


def window(text: str, **more: Any) -> Window:
    return Window(id=more.pop("id", f"id {text}"), turns=(Turn(role="user", content=text),), **more)


def failures(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / FAILED
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["id"]: line["reason"] for line in map(json.loads, lines)}


def run_client(
    server: TeacherServer, tmp_path: Path, windows: list[Window], *options: str, prelude: str = ""
) -> subprocess.Popen[bytes]:
    """Start ``penchant data label`` in a process of its own, to be killed; ``prelude`` is run before."""
    path = tmp_path / "windows.jsonl"
    path.write_text("".join(each.model_dump_json() + "\n" for each in windows))
    arguments = [str(path), "-o", str(tmp_path / "out.jsonl"), "--work", str(tmp_path / "work")]
    arguments += ["--model", "m", "--endpoint", server.url, "--poll-interval", "0.01", *options]
    return subprocess.Popen([sys.executable, "-c", f"{prelude}\n{CLIENT}", *arguments], stderr=subprocess.DEVNULL)
