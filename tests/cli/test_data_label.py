"""``penchant data label`` from argument to exit code, against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import penchant.cli
from penchant.cli.data_label import label
from penchant.data.records import load_windows
from penchant.types import LabelledWindow
from tests.cli.conftest import Command, Run
from tests.data.teacher_server import Answer, TeacherServer, serving


@pytest.fixture
def server() -> Iterator[TeacherServer]:
    with serving() as server:
        yield server


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(label)
    monkeypatch.setattr(penchant.cli, "app", app)

    def run(*arguments: str) -> Run:
        monkeypatch.setattr(sys, "argv", ["label", *arguments])
        try:
            penchant.cli.main()
        except SystemExit as end:
            return Run(int(end.code or 0), *capfd.readouterr())
        raise AssertionError("it did not end")

    return run


@pytest.fixture
def ask(command: Command, server: TeacherServer) -> Command:
    """Run the command on some texts, to out.jsonl."""

    def run(texts: list[str], *options: str, more: str = "") -> Run:
        lines = [{"id": text, "turns": [{"role": "user", "content": text}], "tags": []} for text in texts]
        Path("w.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + more)
        options = ("--poll-interval", "0.01", *options)
        return command("w.jsonl", "-o", "out.jsonl", "--model", "m", "--endpoint", server.url, *options)

    return run


def test_all_is_well(ask: Command, server: TeacherServer) -> None:
    run = ask(["a", "bad-once"], "--price-input", "1000", "--price-output", "10000")
    assert run == Run(
        0,
        "labelled 2 of 2 windows (1 recovered)\n"
        "3 answers were paid for: 300 input tokens, 30 output tokens, USD 0.60\n",
        "",
    )
    assert [each.id for each in load_windows(Path("out.jsonl"), LabelledWindow)] == ["a", "bad-once"]
    assert Path("out.work", "answers.jsonl").exists()
    assert server.asked[0].body.keys() == {"model", "messages"}


def test_a_second_run_pays_nothing(ask: Command, server: TeacherServer) -> None:
    ask(["a"], "--work", "kept")
    run = ask(["a"], "--work", "kept")
    assert (
        run.out == "labelled 1 of 1 windows (0 recovered)\n0 answers were paid for: 0 input tokens, 0 output tokens\n"
    )
    assert len(server.asked) == 1


def test_windows_without_a_label_and_lines_that_are_none(ask: Command) -> None:
    run = ask(["a", "refuse", "always-bad"], "--attempts", "2", more='{"id": "x"}\nnot JSON\n')
    assert run.code == 3
    assert "labelled 1 of 3 windows" in run.out
    assert "2 got no label: see out.failed.jsonl" in run.out
    assert "w.jsonl:4: turns: Field required" in run.err
    assert "w.jsonl:5: not JSON" in run.err
    assert "2 records of w.jsonl are no windows and are left out" in run.err
    reasons = [json.loads(line) for line in Path("out.failed.jsonl").read_text().splitlines()]
    assert [reason["id"] for reason in reasons] == ["refuse", "always-bad"]


def test_rules_that_were_dropped_are_told(ask: Command, server: TeacherServer) -> None:
    rules = [{"condition": "general", "action": action, "confidence": 0.1} for action in "abc"]
    server.script = lambda _: Answer(json.dumps({"preferences": rules}))
    assert "3 rules below 0.4 were dropped\n" in ask(["a"]).out


def test_batches(ask: Command, server: TeacherServer) -> None:
    run = ask(["a", "b"], "--batch")
    assert (run.code, run.err) == (0, "")
    assert len(server.batches) == 1
    assert len(load_windows(Path("out.jsonl"), LabelledWindow)) == 2


def test_a_dry_run_asks_nothing_and_writes_nothing(ask: Command, server: TeacherServer) -> None:
    run = ask(["a", "b", "a"], "--dry-run")
    assert run.code == 0
    assert "3 windows, 2 requests after the cache\n" in run.out
    assert "60 output tokens\n" in run.out
    assert "estimated" in run.out
    assert "USD" not in run.out
    priced = ask(["a", "b", "a"], "--dry-run", "--batch", "--price-input", "0", "--price-output", "1000000")
    assert "60 output tokens, USD 60.00\n" in priced.out
    assert (server.asked, sorted(path.name for path in Path().iterdir())) == ([], ["w.jsonl"])


def test_parameters_are_sent_as_given(ask: Command, server: TeacherServer) -> None:
    ask(["a"], "--parameters", '{"max_completion_tokens": 99}')
    assert server.asked[0].body.keys() == {"model", "messages", "max_completion_tokens"}


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        (["--price-input", "1"], 2, "give both prices or none"),
        (["--parameters", "{"], 2, "not JSON"),
        (["--parameters", "[]"], 2, "must be a JSON object"),
        (["--parameters", '{"stream": true}'], 1, "may not hold stream"),
        (["--endpoint", "localhost"], 1, "http://"),
        (["-o", "w.jsonl"], 1, "w.jsonl is to be read"),
        (["--concurrency", "0"], 2, "concurrency"),
    ],
)
def test_options_that_cannot_be_used(
    options: list[str], code: int, named: str, ask: Command, server: TeacherServer
) -> None:
    run = ask(["a"], *options)
    assert run.code == code
    assert named in run.err
    assert run.out == ""
    assert server.asked == []


def test_files_that_cannot_be_read(command: Command) -> None:
    run = command("no.jsonl", "-o", "out.jsonl", "--model", "m")
    assert run == Run(1, "", "penchant: no such file: no.jsonl\n")


def test_a_server_that_fails_again_and_again_is_one_line(ask: Command, server: TeacherServer) -> None:
    server.script = lambda _: Answer(status=401, message="who\nare you?")
    run = ask([f"w{number}" for number in range(50)])
    assert (run.code, run.out) == (1, "")
    assert run.err.count("\n") == 1
    assert "the server answered 401: who are you?" in run.err
    assert not Path("out.jsonl").exists()


def test_without_pyarrow_the_install_command_is_given() -> None:
    script = "import sys; sys.modules['pyarrow'] = None; from penchant.cli.data_label import label; label(*'abc')"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert "needs pyarrow: pip install 'penchant[train]'" in result.stderr
