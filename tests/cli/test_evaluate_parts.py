"""``penchant evaluate retrieval``, ``merging`` and ``rewards`` from argument to files, with fake models."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

pytest.importorskip("matplotlib")
pytest.importorskip("bm25s")

from penchant.cli.evaluate import evaluate
from penchant.data.pairs import LABELS, RELATIONS, is_apart
from penchant.errors import InputError
from penchant.evaluate import readers, retrieval_systems
from tests.evaluate.test_merging import RECORDS
from tests.evaluate.test_retrieval import profile, topic
from tests.evaluate.test_rewards import exchange
from tests.memory.conftest import WordEmbedder

app = typer.Typer()
app.add_typer(evaluate)

OUTPUTS = {"relevance": 1, "relation": len(RELATIONS), "reaction": len(LABELS)}
NAMES = [f"u{number}" for number in range(30)]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run a command in a folder of its own, with models that know only words and lengths."""

    def load_read(head: str, path: Path | None) -> Callable[[Sequence[tuple[str, str]]], np.ndarray]:
        loaded.append((head, path))
        return lambda asked: np.array(
            [[len(a) % 7 - place * len(b) % 5 for place in range(OUTPUTS[head])] for a, b in asked], float
        )

    loaded: list[tuple[str, Path | None]] = []
    for module in (readers, retrieval_systems):
        monkeypatch.setattr(module, "load_embed", lambda name: WordEmbedder(name).embed)
        monkeypatch.setattr(module, "load_read", load_read)
    monkeypatch.chdir(tmp_path)
    for name, records in {
        "profiles": [profile(each) for each in NAMES],
        "pairs": RECORDS,
        "exchanges": [exchange(each) for each in NAMES],
    }.items():
        Path(name).write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    Path("topics").write_text(json.dumps([topic()]), encoding="utf-8")

    def run(*arguments: str) -> Result:
        loaded.clear()
        result = CliRunner().invoke(app, ["evaluate", *arguments])
        result.loaded = list(loaded)  # type: ignore[attr-defined]
        return result

    return run


def read(folder: str) -> Any:
    return json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_retrieval(command: Callable[..., Result]) -> None:
    done = command("retrieval", "-o", "out", "--profiles", "profiles", "--ikat", "topics", "--reranker", "embedded")
    assert done.exit_code == 0, done.output
    assert done.loaded == [("relevance", None)]  # type: ignore[attr-defined]
    assert names("out") == ["report.json", "report.md", "retrieval.png"]
    report = read("out")
    assert [each["queries"]["name"] for each in report["sets"]] == ["relevance profiles", "TREC iKAT 2023"]
    assert [system["name"] for system in report["sets"][0]["systems"]] == [
        "dense",
        "dense + transformation",
        "dense + transformation + reranker",
        "BM25",
        "hybrid (dense and BM25)",
    ]
    assert len(report["sets"][0]["queries"]["users"]) == len(NAMES)
    assert report["source"]["models"] == {"embedding model": "all-MiniLM-L6-v2", "reranker": "embedded"}
    assert [file["path"] for file in report["source"]["files"]] == ["profiles", "topics"]
    assert "| BM25 |" in done.stdout
    assert "report: out/report.md" in done.stdout


def test_retrieval_on_what_was_kept_apart_and_as_said(command: Callable[..., Result]) -> None:
    options = ["--apart", "--ikat", "topics", "--as-said", "--reranker", "weights.gguf"]
    done = command("retrieval", "-o", "out", "--profiles", "profiles", *options)
    assert done.exit_code == 0, done.output
    assert done.loaded == [("relevance", Path("weights.gguf"))]  # type: ignore[attr-defined]
    profiles, topics = (each["queries"]["users"] for each in read("out")["sets"])
    assert [user["id"] for user in profiles] == [name for name in NAMES if is_apart(name)]
    assert topics[0]["queries"][0]["text"] == "a diet?"


def test_merging(command: Callable[..., Result]) -> None:
    done = command("merging", "pairs", "-o", "out", "--threshold", "0.6", "--reader", "weights.gguf")
    assert done.exit_code == 0, done.output
    assert done.loaded == [("relation", Path("weights.gguf"))]  # type: ignore[attr-defined]
    assert names("out") == ["report.json", "report.md", "thresholds.png"]
    assert (read("out")["threshold"], read("out")["pairs"]) == (0.6, len(RECORDS))
    assert "| merge() |" in done.stdout
    assert read("out")["losses"] is None
    assert command("merging", "pairs", "-o", "out", "--profiles", "profiles", "--apart").exit_code == 0
    assert read("out")["losses"]["users"] == sum(map(is_apart, NAMES))


def test_rewards(command: Callable[..., Result]) -> None:
    done = command("rewards", "exchanges", "-o", "out")
    assert done.exit_code == 0, done.output
    assert done.loaded == [("reaction", None)]  # type: ignore[attr-defined]
    assert names("out") == ["report.json", "report.md", "rewards.png"]
    assert read("out")["exchanges"] == sum(map(is_apart, NAMES))
    assert "| keywords |" in done.stdout
    assert command("rewards", "exchanges", "-o", "out", "--all", "--dead-zone", "0").exit_code == 0
    assert read("out")["exchanges"] == len(NAMES)
    assert [each["dead_zone"] for each in read("out")["estimators"]] == [0, 0, 0.05]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["retrieval"], "give --profiles, --ikat or both"),
        (["retrieval", "--profiles", "absent"], "no such file: absent"),
        (["retrieval", "--profiles", "pairs"], "pairs:1: persona: Field required"),
        (["retrieval", "--ikat", "profiles"], "profiles: topics: "),
        (["merging", "exchanges"], "exchanges:1: old: Field required"),
        (["rewards", "exchanges", "absent"], "no such file: absent"),
    ],
)
def test_bad_files_are_one_clear_error(command: Callable[..., Result], arguments: list[str], message: str) -> None:
    done = command(*arguments, "-o", "out")
    assert done.exit_code == 1
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
    assert not Path("out").exists()
    assert done.loaded == []  # type: ignore[attr-defined]


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        readers.load_read("relation", tmp_path / "absent.gguf")
