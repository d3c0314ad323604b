"""What a language model writes for labelled windows, each rule judged: training data for the pair reader.

    python -m penchant.evaluate.candidates WINDOWS... --output FILE [--limit 4000]

A line for each candidate rule of the likeliest and ``SAMPLES`` other answers, with the window's text; rules that match
optional ones only are left out. The gold rules are candidates too. Give windows that the model has not seen: its
answers to others are better than they will be.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from penchant.data.records import load_windows
from penchant.evaluate.embedding import MiniLM
from penchant.evaluate.matching import SemanticJudge
from penchant.extract.answer import read_form
from penchant.extract.embedded import WEIGHTS
from penchant.extract.encoder import Encoder
from penchant.extract.finder import Finder, Findings
from penchant.extract.window import render_window
from penchant.models.catalog import EMBEDDED
from penchant.models.store import ModelStore
from penchant.types import LabelledWindow, note

SAMPLES = 8
_BATCH = 40


def label(findings: Findings, window: LabelledWindow, judge: SemanticJudge) -> Iterator[tuple[str, bool]]:
    """Yield the notes of a window's candidates and gold rules, and whether each is right.

    A candidate is right if it says the same as a required rule, however many others do.
    """
    rules = [scored.candidate.rule for scored in findings.scored]
    same = judge(rules, window.rules).same
    count = len(window.preferences)
    gold = [(note(rule), True) for rule in window.preferences]
    found = [
        (note(rule), any(row[:count]))
        for rule, row in zip(rules, same.tolist(), strict=True)
        if any(row[:count]) or not any(row)
    ]
    yield from dict([*found, *gold]).items()


def main() -> None:
    """Parse the command line, sample, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("windows", type=Path, nargs="+", help="labelled windows")
    parser.add_argument("--model", help="a prepared folder; without it, the shipped model")
    parser.add_argument("--limit", type=int, default=4000, help="windows, drawn at random")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    windows = [window for path in args.windows for window in load_windows(path, LabelledWindow)]
    random.Random(0).shuffle(windows)
    windows = windows[: args.limit]
    folder = Path(args.model) if args.model else ModelStore.default().ensure(EMBEDDED)
    encoder = Encoder(WEIGHTS / "encoder")
    finder = Finder(folder, read_form(folder), encoder)
    judge = SemanticJudge(MiniLM().embed)
    with args.output.open("w", encoding="utf-8") as file:
        for start in tqdm(range(0, len(windows), _BATCH), desc="windows", unit="batch"):
            batch = windows[start : start + _BATCH]
            turns = [window.turns for window in batch]
            found = finder.find(turns, encoder.probabilities(turns).tolist(), SAMPLES)
            for findings, window in zip(found, batch, strict=True):
                for text, right in label(findings, window, judge):
                    record = {"window": render_window(window.turns), "note": text, "right": right}
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
    finder.close()


if __name__ == "__main__":
    main()
