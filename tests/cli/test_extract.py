"""``penchant extract`` from argument to exit code, with a scripted extractor in place of a model."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import penchant
import penchant.cli
from penchant import Extraction, Extractor, ParseError, Preference, Turn
from penchant.testing import ScriptedExtractor
from tests.cli.conftest import Command, Run

NO_EVIDENCE: dict[str, Any] = {"evidence": [], "unsupported": 0, "repairs": []}


def script(turns: Sequence[Turn]) -> Extraction:
    """Read ``tabs @0.9; short @0.5`` in the last turn as two rules; ``fail`` fails."""
    text = turns[-1].content
    if text == "fail":
        raise ParseError("no list in the answer")
    rules = [part.split("@") for part in text.split(";") if "@" in part]
    return Extraction(
        preferences=tuple(
            Preference(condition=f"{len(turns)} turns", action=action.strip(), confidence=float(confidence))
            for action, confidence in rules
        )
    )


class Loads(NamedTuple):
    """What ``Extractor.load`` was called with, and what it returned."""

    calls: list[tuple[Any, ...]]
    extractor: ScriptedExtractor


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    loads = Loads([], ScriptedExtractor(script))

    def load(kind: str, model: str | None = None, **options: Any) -> Extractor:
        loads.calls.append((kind, model, options))
        return loads.extractor

    monkeypatch.setattr(Extractor, "load", staticmethod(load))
    return loads


@pytest.fixture
def command(
    loads: Loads, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: str | bytes = b"") -> Run:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        monkeypatch.setattr(sys, "argv", ["penchant", "extract", *arguments])
        with pytest.raises(SystemExit) as exit_:
            penchant.cli.main()
        return Run(int(exit_.value.code or 0), *capfd.readouterr())

    return run


def says(*texts: str, **more: Any) -> dict[str, Any]:
    """Return a record of turns: user, assistant, user ..."""
    return more | {
        "turns": [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
    }


def lines(*records: Any) -> str:
    return "".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records)


def rule(action: str, confidence: float, turns: int = 1) -> dict[str, Any]:
    return {"condition": f"{turns} turns", "action": action, "confidence": confidence}


def test_one_line_for_each_window_in_order(command: Command, loads: Loads) -> None:
    texts = [f"a{number} @0.5; b @1" for number in range(60)]
    Path("d.jsonl").write_text(lines(*[says(text, id=number) for number, text in enumerate(texts)]))
    code, out, err = run = command("d.jsonl")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == (
        '{"id": "0", "preferences": [{"condition": "1 turns", "action": "a0", "confidence": 0.5}, '
        '{"condition": "1 turns", "action": "b", "confidence": 1.0}], "valid": true, "error": null, '
        '"evidence": [], "unsupported": 0, "repairs": []}'
    )
    assert [line["id"] for line in run.lines] == [str(number) for number in range(60)]
    assert [line["preferences"][0]["action"] for line in run.lines] == [f"a{number}" for number in range(60)]
    assert loads.calls == [("embedded", None, {"point": "balanced", "gate": True})]
    assert len(loads.extractor.batch_sizes) > 1
    assert loads.extractor.closed


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_standard_input(command: Command, arguments: list[str]) -> None:
    run = command(*arguments, stdin=lines(says("tabs @1"), says("nothing")))
    assert run.lines == [
        {"id": "stdin:1", "preferences": [rule("tabs", 1)], "valid": True, "error": None} | NO_EVIDENCE,
        {"id": "stdin:2", "preferences": [], "valid": True, "error": None} | NO_EVIDENCE,
    ]
    assert run.code == 0


def test_several_files_and_their_ids(command: Command, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    Path("sub/a.jsonl").write_text(lines(says("a @1"), says("b @1", id="mine")))
    Path("b.txt").write_text("User: c @1\nAssistant: ok")
    Path("c.json").write_text(json.dumps([says("d @1")], indent=2))
    run = command("sub/a.jsonl", "b.txt", "-", "c.json", stdin=lines(says("e @1")))
    assert [line["id"] for line in run.lines] == ["a.jsonl:1", "mine", "b.txt", "stdin:1", "c.json:1"]
    assert [line["preferences"][0]["action"] for line in run.lines] == ["a", "b", "c", "e", "d"]


def test_per_turn_gives_a_window_for_every_user_turn(command: Command) -> None:
    record = says("a @1", "ok", "b @1", "\x00", "\x00 ", "ok", " ", *["c @1", "d @1"] * 10, id="x")
    record["turns"].insert(0, {"role": "system", "content": "be nice"})
    run = command("--per-turn", stdin=lines(record, says("e @1", id="y")))
    assert run.code == 0
    assert [(line["id"], line["turn"]) for line in run.lines] == [
        ("x", 1),
        ("x", 3),
        *[("x", index) for index in range(9, 29, 2)],
        ("y", 0),
    ]
    assert [line["preferences"] for line in run.lines[:3]] == [[rule("a", 1)], [rule("b", 1, 3)], [rule("d", 1, 6)]]
    assert list(run.lines[0]) == ["id", "turn", "preferences", "valid", "error", "evidence", "unsupported", "repairs"]


def test_only_the_last_window_without_per_turn(command: Command) -> None:
    (line,) = command(stdin=lines(says("a @1", "ok", "b @1", "bye"))).lines
    assert "turn" not in line
    assert line["preferences"] == [rule("b", 1, 3)]


@pytest.mark.parametrize(("least", "kept"), [("0", "abc"), ("0.5", "bc"), ("0.51", "c"), ("1", "c")])
def test_min_confidence_leaves_out_what_is_below(command: Command, least: str, kept: str) -> None:
    run = command("--min-confidence", least, stdin=lines(says("a @0; b @0.5; c @1"), says("none")))
    assert [rule["action"] for rule in run.lines[0]["preferences"]] == list(kept)
    assert run.lines[1]["preferences"] == []
    assert run.code == 0


def test_what_is_not_valid_is_reported_and_the_rest_goes_on(command: Command) -> None:
    Path("a.jsonl").write_text(lines(says("a @1"), "not json", says("fail", id="f"), says("b @1")))
    Path("empty.jsonl").write_text("")
    Path("broken.json").write_text('[{"turns": [{"role": "user", "content": "c @1"}]},\n oops')
    Path("last.jsonl").write_bytes(lines(says("d @1")).encode() + b"{\xff}\n")
    run = command("a.jsonl", "empty.jsonl", "broken.json", "last.jsonl", "--per-turn")
    assert run.code == 3
    assert [(line["id"], line["valid"]) for line in run.lines] == [
        ("a.jsonl:1", True),
        ("a.jsonl:2", False),
        ("f", False),
        ("a.jsonl:4", True),
        ("empty.jsonl", False),
        ("broken.json:1", True),
        ("broken.json", False),
        ("last.jsonl:1", True),
        ("last.jsonl:2", False),
    ]
    failed = [line for line in run.lines if not line["valid"]]
    assert all(line["preferences"] == [] for line in failed)
    assert run.err.splitlines() == [f"penchant: {line['id']}: {line['error']}" for line in failed]
    assert failed[0]["error"].startswith("line 2: not JSON")
    assert failed[1]["error"] == "no list in the answer"
    assert failed[2]["error"].startswith("empty.jsonl is empty")


def test_repairs_are_shown_and_counted(command: Command, loads: Loads) -> None:
    loads.extractor._script = lambda turns: Extraction(repairs=("removed a code fence",))
    run = command(stdin=lines(says("a")))
    assert run.lines[0]["repairs"] == ["removed a code fence"]
    assert (run.code, run.err) == (0, "penchant: 1 answers had to be repaired\n")


def test_a_table_for_people(command: Command) -> None:
    run = command(
        "--format", "table", stdin=lines(says("[red]tabs[/red] @0.9; short @0.456"), says("none"), says("fail"))
    )
    rows = [line.split() for line in run.out.splitlines()]
    assert rows == [
        ["dialogue", "condition", "action", "confidence"],
        ["stdin:1", "1", "turns", "[red]tabs[/red]", "0.90"],
        ["1", "turns", "short", "0.46"],
        ["stdin:2", "-", "no", "preferences"],
        ["stdin:3", "error", "no", "list", "in", "the", "answer"],
    ]
    assert "\x1b" not in run.out
    assert run.code == 3


def test_a_table_names_the_turn(command: Command) -> None:
    out = command("--format", "table", "--per-turn", stdin=lines(says("a @1", "ok", "b @1", id="x"))).out
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["x", "#0"], ["x", "#2"]]


def test_output_goes_to_a_file_and_replaces_it(command: Command) -> None:
    Path("out.jsonl").write_text("old\n" * 1000)
    run = command("-o", "out.jsonl", stdin=lines(says("ünïcode @1")))
    assert (run.code, run.out, run.err) == (0, "", "")
    assert json.loads(Path("out.jsonl").read_text(encoding="utf-8"))["preferences"] == [rule("ünïcode", 1)]
    assert "ünïcode" in Path("out.jsonl").read_text(encoding="utf-8")


def test_lone_surrogates_do_not_break_a_line(command: Command) -> None:
    run = command(stdin=lines(says("a\ud800 @1", id="x\ud800"), says("fail", id="\udfff")))
    assert run.lines[0] == {"id": "x?", "preferences": [rule("a\ufffd", 1)], "valid": True, "error": None} | NO_EVIDENCE
    assert run.lines[1]["id"] == "?"
    assert run.code == 3


@pytest.mark.parametrize("output", ["d.jsonl", "./d.jsonl", "link.jsonl", "hard.jsonl"])
def test_output_over_the_input_is_refused(command: Command, loads: Loads, output: str) -> None:
    data = lines(says("a @1"))
    Path("d.jsonl").write_text(data)
    Path("link.jsonl").symlink_to("d.jsonl")
    Path("hard.jsonl").hardlink_to("d.jsonl")
    run = command("d.jsonl", "-o", output)
    assert run == (1, "", "penchant: d.jsonl is to be read: write the output to another file\n")
    assert Path("d.jsonl").read_text() == data
    assert loads.calls == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["missing.jsonl"], "no such file, or not to be read: missing.jsonl"),
        (["here.jsonl", "missing.jsonl"], "no such file, or not to be read: missing.jsonl"),
        (["."], "no such file, or not to be read: ."),
        (["-", "-"], "standard input can be read only once: give - once"),
        (["here.jsonl", "-o", "nowhere/out.jsonl"], "[Errno 2] No such file or directory: 'nowhere/out.jsonl'"),
        (["here.jsonl", "-o", "."], "[Errno 21] Is a directory: '.'"),
    ],
)
def test_what_cannot_run_is_one_line_on_stderr_and_code_1(command: Command, arguments: list[str], error: str) -> None:
    Path("here.jsonl").write_text(lines(says("a @1")))
    assert command(*arguments) == (1, "", f"penchant: {error}\n")


def test_a_model_that_cannot_be_loaded(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> Extractor:
        raise penchant.ModelError("cannot load the model: do this")

    monkeypatch.setattr(Extractor, "load", staticmethod(load))
    Path("out.jsonl").write_text("old")
    run = command("-o", "out.jsonl", stdin=lines(says("a @1")))
    assert run == (1, "", "penchant: cannot load the model: do this\n")
    assert Path("out.jsonl").read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk(command: Command, loads: Loads) -> None:
    run = command("-o", "/dev/full", stdin=lines(says("a @1")))
    assert run == (1, "", "penchant: [Errno 28] No space left on device\n")
    assert loads.extractor.closed


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--min-confidence", "1.1"], "--min-confidence"),
        (["--min-confidence", "high"], "--min-confidence"),
        (["--format", "xml"], "--format"),
        (["--extractor", "magic"], "--extractor"),
        (["--endpoint", "http://localhost"], "--endpoint"),
        (["--extractor", "transformers", "--endpoint", "http://localhost"], "--endpoint"),
        (["--prompt", "card"], "--prompt"),
        (["--extractor", "endpoint", "--prompt", "poem"], "--prompt"),
        (["--point", "best"], "--point"),
        (["--extractor", "endpoint", "--no-gate"], "--no-gate"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage_is_code_2(command: Command, loads: Loads, arguments: list[str], named: str) -> None:
    run = command(*arguments)
    assert (run.code, run.out) == (2, "")
    assert named in run.err
    assert loads.calls == []


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (["--model", "folder"], ("embedded", "folder", {"point": "balanced", "gate": True})),
        (["--point", "recall", "--no-gate"], ("embedded", None, {"point": "recall", "gate": False})),
        (["--extractor", "transformers", "--prompt", "reference"], ("transformers", None, {"prompt": "reference"})),
        (
            ["--extractor", "endpoint", "--model", "m", "--endpoint", "http://h/v1", "--prompt", "card"],
            ("endpoint", "m", {"base_url": "http://h/v1", "prompt": "card"}),
        ),
    ],
)
def test_options_reach_the_extractor(command: Command, loads: Loads, arguments: list[str], call: Any) -> None:
    assert command(*arguments, stdin=lines(says("a @1"))).code == 0
    assert loads.calls == [call]


def test_the_module_runs_as_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "penchant", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"penchant {penchant.__version__}\n"


SLOW_COMMAND = """
import sys, time
import penchant.cli
from penchant import Extraction, Extractor, Preference
from penchant.testing import ScriptedExtractor

RULE = Preference(condition="general", action="x" * 200, confidence=1)

def script(turns):
    time.sleep(0.001)
    return Extraction(preferences=(RULE,) * 5)

Extractor.load = staticmethod(lambda *_, **__: ScriptedExtractor(script, batch_size=4))
penchant.cli.main()
"""
COUNT = 20_000  # far more than are done before the signal


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    path = tmp_path / "many.jsonl"
    path.write_text(lines(*[says("hi")] * COUNT))
    arguments = [sys.executable, "-W", "error", "-c", SLOW_COMMAND, "extract", str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_an_interrupt_leaves_whole_lines(running: subprocess.Popen[bytes]) -> None:
    assert running.stdout
    assert running.stderr
    out = b"".join(running.stdout.readline() for _ in range(3))
    running.send_signal(signal.SIGINT)
    out += running.stdout.read()
    assert running.stderr.read() == b""
    assert running.wait(60) == 130
    assert out.endswith(b"\n")
    ids = [json.loads(line)["id"] for line in out.splitlines()]
    assert ids == [f"many.jsonl:{number}" for number in range(1, len(ids) + 1)]
    assert len(ids) < COUNT


def test_a_reader_that_goes_away_ends_the_run_quietly(running: subprocess.Popen[bytes]) -> None:
    assert running.stdout
    assert running.stderr
    running.stdout.readline()
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait(60) == 1
