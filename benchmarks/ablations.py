"""What the choices of the recipe bring, one at a time, and what more data would: F1 of small models.

    penchant data mix recipes/mix-encoder.yaml -o runs/mix-encoder
    python benchmarks/ablations.py --output runs/ablations [--only NAME ...]

The mix is of train.jsonl to train-9.jsonl. Each run trains the recipe of the embedded model from its base, for one
epoch, the rate falling to nothing: on 250 to 8,000 labelled windows (the learning curve), and on 1,000 of them with one
thing changed. The larger samples hold the smaller ones. Greedy answers are counted, without gate and calibration, on
dev and on the calibration windows. A run that was killed goes on where it stopped, and runs that are done are not made
again; OUTPUT/ablations.md and curve.png are written anew after each. A run whose exported model answers otherwise than
it does is printed and left out. Needs: pip install 'penchant[train]', and some hours for all runs.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

from penchant.data.join import join
from penchant.data.records import load_windows, write_windows
from penchant.errors import ModelError
from penchant.evaluate.embedding import MiniLM
from penchant.evaluate.matching import SemanticJudge, match
from penchant.extract.embedded import EmbeddedExtractor
from penchant.train.export import export
from penchant.train.recipe import read_recipe
from penchant.train.sft import train
from penchant.train.trained import load_trained
from penchant.types import LabelledWindow

RECIPE = Path("recipes/smollm2-135m-cpu.yaml")
TESTS = {name: Path(f"data/labelled/{name}.jsonl") for name in ("dev", "calibration")}
SIZES = (250, 500, 1000, 2000, 4000, 8000)
BASE = 1000
POSITIVE = 0.6
"""Share of windows with a rule, unless a run says otherwise: that of the recipe's mix."""

Windows = list[LabelledWindow]


@dataclass(frozen=True)
class Run:
    """What is trained on, and how it differs from the recipe."""

    labelled: int = BASE
    synthetic: int = 0
    joined: int = 0
    positive: float = POSITIVE
    recipe: Mapping[str, Any] = field(default_factory=dict)
    change: Callable[[LabelledWindow], LabelledWindow] = lambda window: window


def without_confidence(window: LabelledWindow) -> LabelledWindow:
    """Give every rule the same confidence, so that what is written of it says nothing."""
    same = {
        name: tuple(rule.model_copy(update={"confidence": 0.9}) for rule in getattr(window, name))
        for name in ("preferences", "optional")
    }
    return window.model_copy(update=same)


def last_turns(window: LabelledWindow) -> LabelledWindow:
    """Cut a window to its last three turns; its rules stay, also those that rest on what is cut."""
    return window.model_copy(update={"turns": window.turns[-3:]})


RUNS = {
    **{f"{size:,} labelled windows": Run(labelled=size) for size in SIZES},
    "another seed": Run(recipe={"seed": 1}),
    "a third seed": Run(recipe={"seed": 2}),
    "+ 250 synthetic windows": Run(synthetic=250),
    "+ 500 synthetic windows": Run(synthetic=500),
    "+ 1,000 synthetic windows": Run(synthetic=1000),
    "+ 500 joined windows": Run(joined=500),
    "35% of the windows with a rule": Run(positive=0.35),
    "80% of the windows with a rule": Run(positive=0.8),
    "three turns instead of six": Run(change=last_turns),
    "the published prompt": Run(recipe={"prompt": "card"}),
    "JSON instead of lines": Run(recipe={"answer": "json"}),
    "no confidence written": Run(change=without_confidence),
}


def choose(run: Run, windows: Sequence[LabelledWindow]) -> Windows:
    """Return the windows of a run; a larger number holds the smaller ones."""
    labelled = [w for w in windows if w.labeller != "synthesis"]
    made = [w for w in windows if w.labeller == "synthesis"]
    with_rule = round(run.positive * run.labelled)
    chosen = take([w for w in labelled if w.is_positive], with_rule)
    chosen += take([w for w in labelled if not w.is_positive], run.labelled - with_rule)
    joined = list(join(take(labelled, BASE), 2 * run.joined))[: run.joined] if run.joined else []
    return [run.change(window) for window in [*chosen, *take(made, run.synthetic), *joined]]


def take(windows: Sequence[LabelledWindow], count: int) -> Windows:
    """Return so many windows by a chance that is always the same."""
    ordered = sorted(windows, key=lambda window: window.id)
    random.Random(0).shuffle(ordered)
    if count > len(ordered):
        raise SystemExit(f"{count} windows are wanted of a kind of which there are {len(ordered)}: give a larger mix")
    return ordered[:count]


def execute(run: Run, windows: Sequence[LabelledWindow], folder: Path) -> dict[str, float]:
    """Train and measure, or read what was measured before."""
    result = folder / "result.json"
    if not result.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_windows(folder / "train.jsonl", choose(run, windows))
        update = {"train": [folder / "train.jsonl"], "evaluation": None, "num_train_epochs": 1, **run.recipe}
        train(read_recipe(RECIPE).model_copy(update=update), folder / "run")
        result.write_text(json.dumps(measure(folder / "run", run.change)) + "\n", encoding="utf-8")
    found: dict[str, float] = json.loads(result.read_text(encoding="utf-8"))
    return found


def measure(trained: Path, change: Callable[[LabelledWindow], LabelledWindow]) -> dict[str, float]:
    """Return precision, recall and F1 of the greedy answers, by meaning."""
    judge = SemanticJudge(MiniLM().embed)
    gold = {name: [change(w) for w in load_windows(path, LabelledWindow)] for name, path in TESTS.items()}
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        export(load_trained(trained), Path(folder) / "exported", ["embedded"], gold["dev"][:8])
        with EmbeddedExtractor(str(Path(folder) / "exported" / "embedded")) as extractor:
            for name, some in gold.items():
                answers = extractor.extract_many([window.turns for window in some])
                matched = [match(answer, window, judge) for answer, window in zip(answers, some, strict=True)]
                said = [each for matching in matched for each in matching.verdicts]
                right, wrong = said.count("right"), said.count("wrong")
                required = sum(len(window.preferences) for window in some)
                found |= {
                    f"{name} precision": right / max(1, right + wrong),
                    f"{name} recall": right / required,
                    f"{name} f1": 2 * right / max(1, right + wrong + required),
                }
    return found


def table(rows: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield "| trained on | dev: F1 | precision | recall | calibration: F1 | precision | recall |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, row in rows.items():
        cells = [f"{row[f'{test} {rate}']:.1%}" for test in TESTS for rate in ("f1", "precision", "recall")]
        yield f"| {name} | {' | '.join(cells)} |"


def draw(rows: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw F1 against the number of labelled windows."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    curve = {RUNS[name].labelled: row for name, row in rows.items() if name.endswith(" labelled windows")}
    for test, colour in zip(TESTS, ("#0072B2", "#D55E00"), strict=True):
        axes.plot(list(curve), [row[f"{test} f1"] for row in curve.values()], "o-", color=colour, label=test)
    axes.set(xscale="log", xticks=list(curve), xlabel="labelled windows, one epoch", ylabel="F1, greedy")
    axes.set_xticklabels([f"{size:,}" for size in curve])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main() -> None:
    """Parse the command line, train each run and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mix", type=Path, default=Path("runs/mix-encoder/train.parquet"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS), metavar="NAME")
    args = parser.parse_args()
    windows = load_windows(args.mix, LabelledWindow)
    rows: dict[str, dict[str, float]] = {}
    left_out: dict[str, str] = {}
    for name in tqdm(args.only, desc="runs", unit="run"):
        run = RUNS[name]
        folder = args.output / "".join(c if c.isalnum() else "-" for c in f"{name} of {run.labelled}").strip("-")
        try:
            rows[name] = execute(run, windows, folder)
        except ModelError as error:
            left_out[name] = str(error)
            continue
        (args.output / "ablations.md").write_text("\n".join(table(rows)) + "\n", encoding="utf-8")
        if any(name.endswith(" labelled windows") for name in rows):
            draw(rows).savefig(args.output / "curve.png", dpi=120)
    print("\n".join(table(rows)))
    if left_out:
        raise SystemExit("\n".join(f"left out: {name}: {reason}" for name, reason in left_out.items()))


if __name__ == "__main__":
    main()
