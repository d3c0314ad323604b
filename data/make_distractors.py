"""Make data/distractors.jsonl: dialogues without a wish, which synthesis sets wishes into.

    python data/make_distractors.py FOLDER

FOLDER holds clones of the public repositories, as SOURCES names them. Left out are dialogues that have a word that
often goes with a preference, long ones, and those with addresses, numbers or words that should not be passed on. Those
in which the embedded extractor may have found one (point recall, no gate) go to data/distractors-flagged.jsonl, with
what it found: read them, and move the lines of those without a wish.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from penchant import Extractor
from penchant.data.records import write_windows
from penchant.data.synthesis import is_plain
from penchant.types import LabelledWindow, Turn, Window

LONGEST = 3000
"""Most characters of a dialogue."""

UNFIT = re.compile(
    r"@\w|https?://|\+?\d[\d\s().-]{8,}\d|\b(sex|porn|nude|nsfw|erotic|rape|kill|suicid|murder|bomb|weapon|drug|cocaine|nazi"
    r"|hitler|slut|bitch|fuck|shit|racis|terroris|torture|jailbreak|hack|dan mode|abus)\w*",
    re.IGNORECASE,
)


def mtbench101(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Multi-turn dialogues written by GPT-4 (github.com/mtbench101/mt-bench-101, Apache-2.0)."""
    for record in lines(folder / "data/subjective/mtbench101.jsonl"):
        if record["task"] not in ("SI", "IC", "FR"):  # tasks that begin with an instruction for the whole dialogue
            yield str(record["id"]), [text for turn in record["history"] for text in (turn["user"], turn["bot"])]


def open_assistant(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Prompts written by people, some with answers (github.com/LAION-AI/Open-Assistant, Apache-2.0)."""
    for path in sorted(folder.rglob("en_100_tree.jsonl")):
        for record in lines(path):
            prompt = record["prompt"]
            replies = [reply["text"] for reply in prompt["replies"][:1]]
            yield prompt["message_id"], [prompt["text"], *replies]
    for path in sorted(folder.rglob("prompt_lottery_en_250_text.jsonl")):
        for number, text in enumerate(lines(path)):
            yield f"lottery-{number}", [text]


def self_instruct(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Instructions written by people (github.com/yizhongw/self-instruct, Apache-2.0)."""
    for record in lines(folder / "human_eval/user_oriented_instructions.jsonl"):
        case = record["instances"][0]
        yield record["id"], [f"{record['instruction']}\n{case['input']}".strip(), case["output"]]


def koala(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Queries of real users (github.com/arnav-gudibande/koala-test-set, Apache-2.0)."""
    for record in lines(folder / "koala_test_set.jsonl"):
        yield record["id"], [record["prompt"]]


def arena_hard(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Prompts of real users (github.com/lmarena/arena-hard-auto, Apache-2.0)."""
    for path in sorted(folder.rglob("arena-hard-v0.1/question.jsonl")):
        for record in lines(path):
            prompt = record.get("prompt") or record["turns"][0]["content"]
            yield record.get("uid") or record["question_id"], [prompt]


SOURCES = {
    "mtbench101": mtbench101,
    "oasst_sample": open_assistant,
    "self_instruct": self_instruct,
    "koala_test": koala,
    "arena_hard": arena_hard,
}


def lines(path: Path) -> Iterator[Any]:
    """Yield the records of a JSON Lines file."""
    return map(json.loads, path.read_text(encoding="utf-8").splitlines())


def windows(folder: Path) -> Iterator[Window]:
    """Yield what is fit to be shipped; a dialogue that ends with an answer ends before it as a window."""
    for name, adapter in SOURCES.items():
        for key, texts in adapter(folder / name):
            roles = ("user", "assistant")
            turns = [Turn(role=roles[i % 2], content=text.strip()) for i, text in enumerate(texts)]  # type: ignore[arg-type]
            if len(turns) % 2 == 0 and len(turns) == 2:
                turns.append(Turn(role="user", content="ok thanks"))
            elif len(turns) % 2 == 0:
                turns.pop()
            text = "\n".join(turn.content for turn in turns)
            if not all(turn.content for turn in turns) or len(text) > LONGEST or UNFIT.search(text):
                continue
            window = Window(
                id=f"{name}/{key}", turns=tuple(turns), source=name, conversation=key, turn=len(turns) - 1,
                licence="Apache-2.0",
            )  # fmt: skip
            if is_plain(window):
                yield window


def main() -> None:
    """Write both files."""
    candidates = list(windows(Path(sys.argv[1])))
    kept: list[Window] = []
    flagged: list[Window] = []
    with Extractor.load(point="recall", gate=False) as extractor:
        results = extractor.extract_many(window.turns for window in candidates)
        for window, found in zip(candidates, tqdm(results, total=len(candidates)), strict=True):
            if found.valid and not found.preferences:
                kept.append(window)
            else:
                labels = {"preferences": found.preferences, "labeller": "teacher"}
                flagged.append(LabelledWindow.model_validate(window.model_dump() | labels))
    write_windows(Path(__file__).with_name("distractors.jsonl"), kept)
    write_windows(Path(__file__).with_name("distractors-flagged.jsonl"), flagged)
    for name, count in Counter(window.source for window in kept).items():
        print(f"{count:5} {name}")
    print(f"{len(flagged):5} to be read: distractors-flagged.jsonl")


if __name__ == "__main__":
    main()
