"""``penchant extract``: dialogues in, one JSON line for each window out."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import typer
from tqdm import tqdm

from penchant.cli.output import JsonWriter, Sink, TableWriter, Writer
from penchant.errors import InputError
from penchant.extract.base import Extractor, renumber
from penchant.extract.confidence import Point
from penchant.extract.reader import Dialogue, read_dialogues
from penchant.extract.window import MAX_TURNS, PromptName
from penchant.text import clean_text
from penchant.types import Extraction, Turn

SOME_INVALID = 3
"""Exit code when the run went through but some windows could not be read or extracted from."""

_STDIN = Path("-")


@dataclass(frozen=True)
class WindowKey:
    """A window's dialogue, the index of its last turn when every user turn has a window, and those of its turns."""

    name: str
    turn: int | None = None
    places: tuple[int, ...] = ()


def extract(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="JSONL or JSON with turns, messages or conversations, a ChatGPT export, or a transcript. "
            "None or -: standard input.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here, not to standard output.")] = None,
    format: Annotated[Literal["jsonl", "table"], typer.Option(help="JSON Lines, or a table for people.")] = "jsonl",
    extractor: Annotated[
        Literal["embedded", "transformers", "endpoint"], typer.Option(help="What extracts.")
    ] = "embedded",
    model: Annotated[
        str | None,
        typer.Option(help="transformers: hub id or path; endpoint: the server's model; embedded: a prepared folder."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="endpoint: the server, e.g. http://localhost:8000/v1; default: $OPENAI_BASE_URL, or OpenAI. "
            "The key is read from PENCHANT_API_KEY, without a URL also from OPENAI_API_KEY.",
        ),
    ] = None,
    prompt: Annotated[
        PromptName | None,
        typer.Option(
            help="transformers, endpoint: the system prompt; card (default) for the published model, "
            "guide for a general LLM."
        ),
    ] = None,
    point: Annotated[
        Point, typer.Option(help="embedded: balanced (best F1), or recall (miss little, and expect more wrong rules).")
    ] = "balanced",
    gate: Annotated[
        bool, typer.Option("--gate/--no-gate", help="embedded: let the small encoder decide which windows are read.")
    ] = True,
    min_confidence: Annotated[float, typer.Option(min=0, max=1, help="Leave out rules below this, too.")] = 0.0,
    per_turn: Annotated[
        bool, typer.Option("--per-turn", help="A window for every user turn, not just the last.")
    ] = False,
) -> None:
    """Extract preferences from dialogues.

    Writes one line for each window, in order: id, preferences (condition, action, confidence), valid, error, evidence
    (the user's words that each rule rests on: turn, start, end, text), unsupported (rules dropped for want of it),
    repairs (what had to be mended in the model's answer).
    A dialogue that cannot be read gives a line that is not valid, and the rest goes on.

    Exit code: 0 all is well; 1 could not run; 2 wrong usage; 3 some windows are not valid.
    """
    if extractor != "endpoint" and endpoint:
        raise typer.BadParameter("only with --extractor endpoint", param_hint="--endpoint")
    if extractor == "embedded" and prompt:
        raise typer.BadParameter("the embedded model has its own prompt", param_hint="--prompt")
    if extractor != "embedded" and (point != "balanced" or not gate):
        raise typer.BadParameter("only with --extractor embedded", param_hint="--point, --no-gate")
    options: dict[str, Any] = {"point": point, "gate": gate}
    if extractor != "embedded":
        given = {"base_url": endpoint, "prompt": prompt}
        options = {name: value for name, value in given.items() if value}
    sources = _check_files(files or [_STDIN], output)
    with ExitStack() as stack:
        loaded = stack.enter_context(Extractor.load(extractor, model, **options))
        sink = stack.enter_context(Sink(output))
        writer = TableWriter(sink) if format == "table" else JsonWriter(sink)
        hidden = sink.is_terminal or not sys.stderr.isatty()
        size = None if _STDIN in sources else sum(path.stat().st_size for path in sources)
        bar = stack.enter_context(tqdm(total=size, desc="extract", unit="B", unit_scale=True, disable=hidden))
        results = loaded.extract_keyed(_windows(sources, per_turn, bar.update))
        all_valid = _write(results, writer, min_confidence, bar)
    if not all_valid:
        raise typer.Exit(SOME_INVALID)


def _write(
    results: Iterator[tuple[WindowKey, Extraction]], writer: Writer, min_confidence: float, bar: tqdm[Any]
) -> bool:
    """Write results as their batches are done, and what is wrong with them to stderr; say whether all are valid."""
    invalid = repaired = 0
    for count, (key, result) in enumerate(results, 1):
        writer.write(key.name, key.turn, renumber(_keep(result, min_confidence), key.places))
        repaired += bool(result.repairs)
        bar.set_postfix(windows=count, refresh=False)
        if not result.valid:
            invalid += 1
            bar.clear()
            sys.stderr.write(f"penchant: {clean_text(f'{key.name}: {result.error}')}\n")
    if repaired:
        sys.stderr.write(f"penchant: {repaired} answers had to be repaired\n")
    return not invalid


def _keep(result: Extraction, min_confidence: float) -> Extraction:
    """Keep the rules that are sure enough, and their evidence."""
    sure = [index for index, rule in enumerate(result.preferences) if rule.confidence >= min_confidence]
    evidence = tuple(result.evidence[index] for index in sure) if result.evidence else ()
    rules = tuple(result.preferences[index] for index in sure)
    return result.model_copy(update={"preferences": rules, "evidence": evidence})


def _check_files(files: Sequence[Path], output: Path | None) -> Sequence[Path]:
    for path in files:
        if path != _STDIN and (path.is_dir() or not os.access(path, os.R_OK)):
            raise InputError(f"no such file, or not to be read: {path}")
        if output and output.exists() and _is_same(path, output):
            raise InputError(f"{path} is to be read: write the output to another file")
    if files.count(_STDIN) > 1:
        raise InputError("standard input can be read only once: give - once")
    if _STDIN in files and sys.stdin.isatty():
        sys.stderr.write("penchant: reading dialogues from standard input\n")
    return files


def _is_same(path: Path, output: Path) -> bool:
    if path != _STDIN:
        return path.samefile(output)
    try:
        return os.path.samestat(os.fstat(sys.stdin.fileno()), output.stat())
    except OSError:  # standard input is no file
        return False


def _windows(
    files: Sequence[Path], per_turn: bool, on_read: Callable[[int], object]
) -> Iterator[tuple[WindowKey, list[Turn] | InputError]]:
    """Yield the windows of all files; what cannot be read yields its error, and the next file goes on."""
    for path in files:
        name = "stdin" if path == _STDIN else path.name
        with _unbuffered_stdin() if path == _STDIN else path.open("rb", buffering=0) as stream:
            try:
                for dialogue in read_dialogues(stream, name, on_read):
                    yield from _dialogue_windows(dialogue, per_turn)
            except InputError as error:
                yield WindowKey(name), error


def _unbuffered_stdin() -> BinaryIO | io.RawIOBase:
    """Return standard input such that a read gives what there is: a batch need not wait for a full buffer."""
    raw: BinaryIO | io.RawIOBase = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    return raw


def _dialogue_windows(dialogue: Dialogue, per_turn: bool) -> Iterator[tuple[WindowKey, list[Turn] | InputError]]:
    turns = [(index, turn) for index, turn in dialogue.turns if clean_text(turn.content).strip()]
    if dialogue.error:
        yield WindowKey(dialogue.id), InputError(dialogue.error)
        return
    ends = [position for position, (_, turn) in enumerate(turns, 1) if turn.role == "user"]
    for end in ends if per_turn else ends[-1:]:
        places, window = zip(*turns[max(0, end - MAX_TURNS) : end], strict=True)
        yield WindowKey(dialogue.id, places[-1] if per_turn else None, places), list(window)
