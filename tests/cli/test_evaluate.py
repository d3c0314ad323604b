"""``penchant evaluate extraction`` from argument to files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

pytest.importorskip("torch")

from penchant.cli.evaluate import evaluate
from penchant.data.records import write_windows
from penchant.errors import InputError, ParseError
from penchant.evaluate import embedding, run
from penchant.evaluate.matching import ACTION_THRESHOLD
from penchant.extract.base import Extractor
from penchant.models.catalog import EMBEDDED
from penchant.models.store import ModelStore
from penchant.testing import ScriptedExtractor
from penchant.types import Extraction, LabelledWindow, Preference, Turn
from tests.conftest import REAL_MODELS, ROOT
from tests.evaluate.made import embed, find_all, rule, window

Script = Callable[[Sequence[Turn]], Extraction]

app = typer.Typer()
app.add_typer(evaluate)

GOLD = [
    *(window([rule(f"use tabs {i}")], id=f"pos-{i}", tags=("explicit",)) for i in range(12)),
    window([rule("日本語で答える", "🦀 in Rust")], [rule("be short")], id="ünï", language="ja"),
    *(window(id=f"neg-{i}", tags=("none",)) for i in range(4)),
]


def broken(_: Sequence[Turn]) -> Extraction:
    raise ParseError("cannot reach the server")


def noisy(_: Sequence[Turn]) -> Extraction:
    return Extraction(preferences=(rule("sing"), rule("Always sing.")))


SCRIPTS: dict[str | None, Script] = {"good": find_all(GOLD), "broken": broken, "noisy": noisy}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run the command in an empty folder, with scripts for a server's models and a fake judge."""

    class FakeJudge:
        embed = staticmethod(embed)

    def load(_: str, model: str | None = None, **__: Any) -> Extractor:
        return ScriptedExtractor(SCRIPTS[model])

    monkeypatch.setattr(Extractor, "load", staticmethod(load))
    monkeypatch.setattr(embedding, "MiniLM", FakeJudge)
    monkeypatch.chdir(tmp_path)
    write_windows(tmp_path / "gold.jsonl", GOLD)
    return lambda *arguments: CliRunner().invoke(app, ["evaluate", "extraction", *arguments])


def read(folder: str) -> Any:
    return json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))


def test_extractors_side_by_side(command: Callable[..., Result]) -> None:
    specs = [f"--extractor={spec}" for spec in ("keywords", "good=endpoint:good", "endpoint:noisy", "endpoint:broken")]
    done = command("gold.jsonl", "-o", "out", *specs)
    assert done.exit_code == 3, done.output  # none of an extractor's answers could be read
    keywords, good, noise, failing = read("out")["extractors"]
    assert keywords["spec"] == {"name": "keywords", "kind": "keywords", "model": None, "endpoint": None, "prompt": None}
    assert good["spec"]["name"] == "good"
    assert [good["semantic"][rate]["value"] for rate in ("precision", "recall", "f1", "perfect")] == [1, 1, 1, 1]
    assert good["exact"]["f1"]["value"] == 1
    assert (noise["noise"]["value"], noise["duplicates"]["value"], noise["semantic"]["f1"]["value"]) == (1, 0.5, 0)
    assert failing["valid"]["value"] == 0
    assert failing["errors"] == [["cannot reach the server", len(GOLD)]]
    assert failing["timing"] is None
    assert good["timing"]["sample"] == len(GOLD)
    assert "| good | 100.0% (100.0 to 100.0) | 100.0% (100.0 to 100.0) |" in done.stdout
    assert "report: out/report.md" in done.stdout
    assert sorted(path.suffix for path in Path("out").iterdir()) == [".json", ".md", ".png", ".png", ".png"]


def test_all_well_is_zero(command: Callable[..., Result]) -> None:
    assert command("gold.jsonl", "-o", "out", "-e", "endpoint:good").exit_code == 0
    assert read("out")["comparisons"] == []


def test_the_threshold_reaches_the_judge_and_the_report(command: Callable[..., Result]) -> None:
    SCRIPTS["near"] = lambda turns: Extraction(
        preferences=tuple(rule(f"{found.action} please now") for found in SCRIPTS["good"](turns).preferences)
    )
    found = {}
    for threshold in ("0.3", "0.9"):
        assert command("gold.jsonl", "-o", "out", "-e", "endpoint:near", "--threshold", threshold).exit_code == 0
        assert read("out")["header"]["action_threshold"] == float(threshold)
        found[threshold] = read("out")["extractors"][0]["semantic"]["right"]
    assert found["0.3"] > 0 == found["0.9"]
    assert command("gold.jsonl", "-o", "out", "-e", "endpoint:good").exit_code == 0
    assert read("out")["header"]["action_threshold"] == ACTION_THRESHOLD


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "gold.jsonl is empty"),
        ('{"id": "a"}\n', "gold.jsonl:1: turns: Field required"),
        ("not json\n", "gold.jsonl:1: not JSON"),
        (None, "no such file: gold.jsonl"),
    ],
)
def test_a_bad_gold_file_is_one_clear_error(command: Callable[..., Result], content: str | None, message: str) -> None:
    Path("gold.jsonl").unlink()
    if content is not None:
        Path("gold.jsonl").write_text(content)
    done = command("gold.jsonl", "-o", "out", "-e", "endpoint:good")
    assert done.exit_code == 1
    assert isinstance(done.exception, InputError)
    assert str(done.exception).startswith(message)
    assert "\n" not in str(done.exception)
    assert not Path("out").exists()


def test_a_wrong_spec_stops_before_anything_runs(command: Callable[..., Result]) -> None:
    done = command("gold.jsonl", "-o", "out", "-e", "endpoint:good", "-e", "gpt")
    assert isinstance(done.exception, InputError)
    assert "no extractor 'gpt'" in str(done.exception)
    assert not Path("out").exists()


def test_a_folder_that_cannot_be_made_stops_before_anything_runs(command: Callable[..., Result]) -> None:
    Path("out").write_text("a file")
    assert isinstance(command("gold.jsonl", "-o", "out", "-e", "endpoint:good").exception, OSError)


def test_without_the_extra_the_install_command_is_given() -> None:
    script = (
        "import sys; sys.modules['scipy'] = None\n"
        "from penchant.cli.evaluate import extraction\n"
        "from penchant.errors import MissingExtra\n"
        "try: extraction('gold', 'out')\n"
        "except MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'penchant[train]'" in done.stdout


def test_the_shipped_model_on_real_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own store, so that models are fetched once and not for every run of the tests."""
    monkeypatch.setenv("PENCHANT_HOME", str(REAL_MODELS.parent))
    monkeypatch.setattr(run, "LATENCY_SAMPLE", 3)
    store = ModelStore(REAL_MODELS)
    store.ensure(EMBEDDED)
    lines = (ROOT / "data" / "labelled" / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    gold = tmp_path / "gold.jsonl"
    gold.write_text("\n".join(lines[::10]) + "\n", encoding="utf-8")
    embedded = f"shipped=embedded:{store.folder(EMBEDDED)}"
    done = CliRunner().invoke(
        app, ["evaluate", "extraction", str(gold), "-o", str(tmp_path / "out"), "-e", "keywords", "-e", embedded]
    )
    assert done.exit_code == 0, done.output
    keywords, shipped = read(str(tmp_path / "out"))["extractors"]
    assert shipped["valid"]["value"] == 1
    assert shipped["semantic"]["f1"]["value"] > keywords["semantic"]["f1"]["value"] + 0.1
    assert shipped["semantic"]["right"] >= shipped["exact"]["right"]
    assert [w["id"] for w in shipped["windows"]] == [
        LabelledWindow.model_validate_json(line).id for line in lines[::10]
    ]
    for found in shipped["windows"]:
        assert all(Preference.model_validate(found_rule) for found_rule in found["extraction"]["preferences"])
