"""The embedded extractor on real chats that it was not trained on: what the gate lets pass, what is found, how fast.

    python benchmarks/real_chat.py FOLDER --output runs/real_chat

FOLDER holds clones of public repositories: arena_hard (prompts of users), oasst_sample (dialogues written by people),
specstory_sessions (sessions with coding agents), mtbench_vicuna. 400 windows are drawn from what is not in
data/distractors.jsonl; that none of them shares a turn with data/labelled/train-14.jsonl is checked. What they hold was
read by a large language model (real_chat_labels.jsonl): a rule is false if it is like none of a window's required and
optional ones (penchant.evaluate.matching). OUTPUT/balanced.jsonl and recall.jsonl have every window with a rule, to be
read by a person. Nothing of the windows is printed. Needs: pip install 'penchant[train]'.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import re
import time
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from tqdm import tqdm

from penchant import Extractor, Turn
from penchant.evaluate.embedding import MiniLM
from penchant.evaluate.matching import SemanticJudge, match
from penchant.extract.confidence import FILE, Point, load_confidence
from penchant.extract.embedded import WEIGHTS
from penchant.extract.encoder import Encoder
from penchant.extract.window import render_window
from penchant.types import Extraction, LabelledWindow

DATA = Path(__file__).parent.parent / "data"
DISTRACTORS = DATA / "distractors.jsonl"
LABELLED = DATA / "labelled" / "train-14.jsonl"
LABELS = Path(__file__).with_name("real_chat_labels.jsonl")
SHARES = {"arena_hard": 150, "oasst_sample": 110, "specstory_sessions": 90, "mtbench_vicuna": 50}
SPEAKER = re.compile(r"^_\*\*(User|Assistant|Agent)[^*]*\*\*_\s*$", re.MULTILINE)

Window = list[Turn]


def lines(path: Path) -> list[Any]:
    """Read JSON Lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def arena_hard(folder: Path) -> Iterator[Window]:
    """Single prompts of users."""
    for record in lines(folder / "arena-hard-v2.0" / "question.jsonl"):
        yield [Turn(role="user", content=record["prompt"])]


def oasst_sample(folder: Path) -> Iterator[Window]:
    """Dialogues up to each of their prompts."""
    for tree in json.loads((folder / "backend/test_data/realistic/realistic_seed_data.json").read_text("utf-8")):
        yield from paths(tree, [])


def paths(message: dict[str, Any], before: Window) -> Iterator[Window]:
    """Walk a tree of messages."""
    role = "user" if message["role"] == "prompter" else "assistant"
    turns = [*before, Turn(role=role, content=message["text"])]  # type: ignore[arg-type]
    if role == "user":
        yield turns
    for child in message.get("children") or []:
        yield from paths(child, turns)


def specstory_sessions(folder: Path) -> Iterator[Window]:
    """Sessions up to each of their user turns."""
    for path in sorted(folder.rglob("*.md")):
        _, *parts = SPEAKER.split(path.read_text(encoding="utf-8"))
        turns: Window = []
        for speaker, text in zip(parts[::2], parts[1::2], strict=True):
            role = "user" if speaker == "User" else "assistant"
            content = text.strip().strip("-").strip()
            if content:
                turns.append(Turn(role=role, content=content))  # type: ignore[arg-type]
                if role == "user":
                    yield turns[-6:]


def mtbench_vicuna(folder: Path) -> Iterator[Window]:
    """First turns."""
    for path in sorted(folder.rglob("question.jsonl")):
        for record in lines(path):
            yield [Turn(role="user", content=record["turns"][0])]


SOURCES = {
    "arena_hard": arena_hard,
    "oasst_sample": oasst_sample,
    "specstory_sessions": specstory_sessions,
    "mtbench_vicuna": mtbench_vicuna,
}


def draw(folder: Path, shares: Mapping[str, int] = SHARES) -> list[Window]:
    """Draw the windows: always the same, each last turn once, none that shares a turn with what was trained on."""
    distractors, labelled = beginnings(DISTRACTORS), beginnings(LABELLED)
    drawn: list[Window] = []
    for name, count in shares.items():
        found = {beginning(window[-1].content): window for window in SOURCES[name](folder / name)}
        fresh = [w for w in found.values() if not any(beginning(turn.content) in distractors for turn in w)]
        drawn += random.Random(0).sample(fresh, min(count, len(fresh)))
    if any(beginning(turn.content) in labelled for window in drawn for turn in window):
        raise SystemExit(f"a window that would be drawn is in {LABELLED.name}, which the model was trained on")
    return drawn


def beginning(text: str) -> str:
    """Return by what a turn is known again."""
    return text.strip()[:200]


def beginnings(path: Path) -> set[str]:
    """Return how the turns of a file begin."""
    return {beginning(turn["content"]) for record in lines(path) for turn in record["turns"]}


def label(windows: list[Window]) -> list[LabelledWindow]:
    """Return the windows with what was read in them."""
    labels = {record["window"]: record for record in lines(LABELS)}
    found = []
    for window in windows:
        name = digest(window)
        if name not in labels:
            raise SystemExit(f"{LABELS.name} does not know a window: FOLDER holds other versions of the repositories")
        rules = {kind: labels[name][kind] for kind in ("preferences", "optional")}
        found.append(LabelledWindow.model_validate({"id": name, "turns": window} | rules))
    return found


def digest(window: Window) -> str:
    """Return a window's name, which gives nothing of it away."""
    return hashlib.sha256(render_window(window).encode()).hexdigest()[:16]


def extract(windows: list[Window], point: Point, gate: bool) -> tuple[list[Extraction], float]:
    """Return what is found, and windows per second, loaded and warm."""
    with Extractor.load(point=point, gate=gate) as extractor:
        extractor.extract(windows[0])
        started = time.perf_counter()
        found = list(tqdm(extractor.extract_many(windows), desc=point, total=len(windows), disable=None))
        return found, len(windows) / (time.perf_counter() - started)


def report(point: str, found: list[Extraction], gold: list[LabelledWindow], judge: SemanticJudge, path: Path) -> None:
    """Print how many windows have a rule and a false one, and write those with a rule."""
    matched = [match(extraction, window, judge).verdicts for extraction, window in zip(found, gold, strict=True)]
    with path.open("w", encoding="utf-8") as file:
        for window, extraction, verdicts in zip(gold, found, matched, strict=True):
            if extraction.preferences:
                record = window.model_dump(mode="json", include={"id", "turns", "preferences", "optional"})
                file.write(
                    json.dumps(record | {"found": extraction.model_dump(mode="json"), "verdicts": verdicts}) + "\n"
                )
    with_rule, false = sum(map(bool, matched)), sum("wrong" in verdicts for verdicts in matched)
    right, required = sum(v.count("right") for v in matched), sum(len(window.preferences) for window in gold)
    print(
        f"{point}: {with_rule} windows with a rule, {false} with a false one ({false / len(gold):.1%}), "
        f"{right} of {required} required rules found; {path}"
    )


def main() -> None:
    """Parse the command line, extract, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    windows = draw(args.folder)
    gold = label(windows)
    args.output.mkdir(parents=True, exist_ok=True)
    passed = Encoder(WEIGHTS / "encoder").probabilities(windows) >= load_confidence(WEIGHTS / FILE).gate
    balanced, with_gate = extract(windows, "balanced", gate=True)
    recall, without = extract(windows, "recall", gate=False)  # the points differ in what is kept, not in what is read
    recall = [each if passes else Extraction() for each, passes in zip(recall, passed, strict=True)]
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {date.today()}; {len(windows)} windows"
    )
    print(f"the gate lets {passed.mean():.1%} pass")
    judge = SemanticJudge(MiniLM().embed)
    report("balanced", balanced, gold, judge, args.output / "balanced.jsonl")
    report("recall", recall, gold, judge, args.output / "recall.jsonl")
    print(f"{with_gate:.1f} windows/s with the gate, {without:.1f} without ({with_gate / without:.1f}x)")


if __name__ == "__main__":
    main()
