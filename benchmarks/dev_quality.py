"""How good the extractors are on the dev set: the README's quality table.

    python benchmarks/dev_quality.py [--model NAME=GGUF ...] [--details FILE]

Compares the keyword baseline, untuned SmolLM2-135M-Instruct and the shipped model, under the same prompt and
the same grammar. The judge is a one-to-one matching of rules by the cosine of their actions (see
src/penchant/evaluate/matching.py). Needs: pip install 'penchant[train]'.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from tqdm import tqdm

from penchant import Extraction, Extractor, Preference
from penchant.evaluate.embedding import MiniLM
from penchant.evaluate.keywords import KeywordExtractor
from penchant.evaluate.matching import ACTION_THRESHOLD, Counts, count_matches
from penchant.models.catalog import EMBEDDED
from penchant.models.prepare import prepare
from penchant.models.store import ModelStore

DEV = Path(__file__).parent.parent / "data" / "labelled" / "dev.jsonl"


@dataclass(frozen=True)
class Gold:
    """A labelled window."""

    turns: list[dict[str, str]]
    required: list[Preference]
    optional: list[Preference]


def read_gold(path: Path) -> list[Gold]:
    """Read labelled windows."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Gold(r["turns"], [Preference(**p) for p in r["preferences"]], [Preference(**p) for p in r["optional"]])
        for r in records
    ]


def load_gguf(weights: Path, parent: Path) -> Extractor:
    """Load whole weights, without a difference."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    prepare(weights, None, folder)
    return Extractor.load(model=str(folder))


def load_untuned(parent: Path) -> Extractor:
    """Load the base model without what training added."""
    base = parent / "base.gguf"
    ModelStore.default().fetch_base(EMBEDDED, base)
    return load_gguf(base, parent)


COLUMNS = "valid JSON | precision | recall | F1 | negative windows with a rule"


def score(gold: list[Gold], results: list[Extraction], embed: MiniLM) -> str:
    """Score one extractor: the cells under ``COLUMNS``."""
    total = Counts()
    for window, result in zip(gold, results, strict=True):
        total += count_matches(result.preferences, window.required, window.optional, embed.embed)
    negatives = [r for w, r in zip(gold, results, strict=True) if not w.required and not w.optional]
    noisy = sum(bool(r.preferences) for r in negatives) / len(negatives)
    valid = sum(r.valid for r in results) / len(results)
    return f"{valid:.1%} | {total.precision:.1%} | {total.recall:.1%} | **{total.f1:.1%}** | {noisy:.1%}"


@contextmanager
def extractors(extra: list[str]) -> Iterator[dict[str, Extractor]]:
    """Load what is compared."""
    with tempfile.TemporaryDirectory() as folder:
        named: dict[str, Extractor] = {"keywords": KeywordExtractor()}
        if extra:
            pairs = (item.split("=", 1) for item in extra)
            named |= {name: load_gguf(Path(path), Path(folder)) for name, path in pairs}
        else:
            named["SmolLM2-135M-Instruct, untuned"] = load_untuned(Path(folder))
            named["**Penchant's embedded model**"] = Extractor.load()
        yield named


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=GGUF", help="compare these instead")
    parser.add_argument("--details", type=Path, help="write gold and extracted rules of the last model, JSON Lines")
    parser.add_argument("--gold", type=Path, default=DEV)
    args = parser.parse_args()
    gold = read_gold(args.gold)
    embed = MiniLM()
    print(
        f"{args.gold.name}, {len(gold)} windows, {date.today()}, {platform.machine()}; judge: all-MiniLM-L6-v2,"
        f" action cosine >= {ACTION_THRESHOLD}\n"
    )
    print(f"| extractor | {COLUMNS} |\n| --- | {' | '.join('---' for _ in COLUMNS.split('|'))} |")
    with extractors(args.model) as named:
        for name, extractor in named.items():
            results = list(
                tqdm(extractor.extract_many(w.turns for w in gold), total=len(gold), desc=name, disable=None)
            )
            print(f"| {name} | {score(gold, results, embed)} |", flush=True)
    if args.details:
        with args.details.open("w", encoding="utf-8") as out:
            for window, result in zip(gold, results, strict=True):
                rules = {"required": window.required, "optional": window.optional, "extracted": result.preferences}
                record = {"turns": window.turns} | {k: [p.model_dump() for p in v] for k, v in rules.items()}
                out.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
