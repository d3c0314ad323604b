"""``penchant simulate``."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penchant.cli import app
from penchant.cli.simulate import simulate
from penchant.errors import InputError
from penchant.retrieve.rerank import FLOOR
from penchant.simulate.style import PERSONAS
from tests.simulate.conftest import DATA, word_models


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penchant.simulate.models.load_models", word_models)


def test_a_quick_simulation_writes_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penchant.simulate.style.PERSONAS", PERSONAS[:3])
    arguments = ["--quick", "--users", "1", "--sessions", "2", "--seed", "3", "--workers", "1", "--floor", "0"]
    done = CliRunner().invoke(app, ["simulate", "-o", str(tmp_path / "out"), "--data", str(DATA), *arguments])
    assert done.exit_code == 0, done.output
    assert "vars minus rag" in done.output
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    expected = {"users": 1, "sessions": 2, "seeds": 1, "seed": 3, "floor": 0}
    assert {name: data["settings"][name] for name in expected} == expected


def test_data_that_is_not_there_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["simulate", "-o", str(tmp_path / "out"), "--data", str(tmp_path)])
    assert isinstance(done.exception, InputError)
    assert "reactions.jsonl" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_the_floor_is_the_loops_own() -> None:
    assert math.log(inspect.signature(simulate).parameters["floor"].default) == FLOOR


def test_help_says_what_is_simulated() -> None:
    done = CliRunner().invoke(app, ["simulate", "--help"])
    assert done.exit_code == 0
    for option in ("--users", "--sessions", "--seeds", "--seed", "--quick", "--output"):
        assert option in done.output
