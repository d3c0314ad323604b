"""What the choices of the recipe bring, one at a time, and what more data would: F1 of models trained for one epoch.

    penchant data mix recipes/mix-all.yaml -o runs/mix-all
    python benchmarks/ablations.py --output runs/ablations [--only NAME ...]

Each run trains the recipe of the embedded model from its base, for one epoch, 16 windows a step, the rate falling to
nothing: on 250 to 32,000 labelled windows (the learning curve), and on 2,000 of them with one thing changed. The larger
samples hold the smaller ones. Windows are joined from the run's own labelled ones; of these and of synthetic ones, as
many hold a rule as of the others. Greedy answers are counted, without gate and calibration, on dev and on the
calibration windows. A run that was killed goes on where it stopped, and runs that are done are not made again;
OUTPUT/ablations.md and curve.png are written anew after each. Give another OUTPUT for another mix. Needs: pip install
'penchant[train]'. On an H200, 2,000 windows take a minute; on two cores, the learning curve up to there two hours.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from pydantic import TypeAdapter
from tqdm import tqdm

from penchant.data.join import join
from penchant.data.records import load_windows, write_windows
from penchant.evaluate.embedding import MiniLM
from penchant.evaluate.matching import Judge, SemanticJudge, match
from penchant.extract.answer import ModelForm, write_form
from penchant.extract.generator import MAX_ANSWER_TOKENS
from penchant.extract.transformers import TransformersExtractor
from penchant.train.recipe import read_recipe
from penchant.train.sft import train
from penchant.types import Extraction, LabelledWindow

RECIPE = Path("recipes/smollm2-135m-cpu.yaml")
TESTS = {name: Path(f"data/labelled/{name}.jsonl") for name in ("dev", "calibration")}
SIZES = (250, 500, 1000, 2000, 4000, 8000, 16000, 32000)
BASE = 2000
POSITIVE = 0.6
"""Share of windows with a rule, unless a run says otherwise: that of the recipe's mix."""

Windows = list[LabelledWindow]
ANSWERS = TypeAdapter(dict[str, list[Extraction]])


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
    "+ 1,000 synthetic windows": Run(synthetic=1000),
    "+ 2,000 synthetic windows": Run(synthetic=2000),
    "+ 4,000 synthetic windows": Run(synthetic=4000),
    "4,000 synthetic windows alone": Run(labelled=0, synthetic=4000),
    "+ 1,000 joined windows": Run(joined=1000),
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
    made = [w for w in windows if w.labeller == "synthesis" and not w.id.startswith("joined/")]
    chosen = draw_share(labelled, run.labelled, run.positive)
    synthetic = draw_share(made, run.synthetic, run.positive)
    # one in ten of the joined ones holds no rule
    joined = draw_share(list(join(chosen, 10 * run.joined)), run.joined, run.positive) if run.joined else []
    return [run.change(window) for window in [*chosen, *synthetic, *joined]]


def draw_share(windows: Sequence[LabelledWindow], count: int, positive: float) -> Windows:
    """Return so many windows, a share of them with a rule."""
    with_rule = round(positive * count)
    negatives = take([w for w in windows if not w.is_positive], count - with_rule)
    return [*take([w for w in windows if w.is_positive], with_rule), *negatives]


def take(windows: Sequence[LabelledWindow], count: int) -> Windows:
    """Return so many windows by a chance that is always the same."""
    ordered = sorted(windows, key=lambda window: window.id)
    random.Random(0).shuffle(ordered)
    if count > len(ordered):
        raise SystemExit(f"{count} windows are wanted of a kind of which there are {len(ordered)}: give a larger mix")
    return ordered[:count]


def folder_name(name: str, run: Run) -> str:
    """Return where a run is kept: it is another one if the number of windows has changed."""
    return "".join(c if c.isalnum() else "-" for c in f"{name} of {run.labelled}").strip("-")


def answer(run: Run, windows: Sequence[LabelledWindow], folder: Path) -> dict[str, list[Extraction]]:
    """Train and answer the windows of each test greedily, or read what was answered before."""
    path = folder / "answers.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_windows(folder / "train.jsonl", choose(run, windows))
        update = {"train": (folder / "train.jsonl",), "evaluation": None, "num_train_epochs": 1, **run.recipe}
        recipe = read_recipe(RECIPE).model_copy(update=update)
        final = train(recipe, folder / "run")
        write_form(final, ModelForm(prompt=recipe.prompt, answer=recipe.answer))
        found = ask(
            final, {name: [run.change(w) for w in load_windows(test, LabelledWindow)] for name, test in TESTS.items()}
        )
        path.write_bytes(ANSWERS.dump_json(found))
    return ANSWERS.validate_json(path.read_bytes())


def ask(model: Path, tests: Mapping[str, Windows]) -> dict[str, list[Extraction]]:
    """Return a model's greedy answers, in float32."""
    extractor = TransformersExtractor(str(model), batch_size=256, max_new_tokens=MAX_ANSWER_TOKENS, dtype="float32")
    return {name: extractor.extract_batch([window.turns for window in some]) for name, some in tests.items()}


def measure(answered: Mapping[str, Sequence[Extraction]], judge: Judge, run: Run) -> dict[str, float]:
    """Return precision, recall and F1 by meaning."""
    found: dict[str, float] = {}
    for name, extractions in answered.items():
        gold = [run.change(window) for window in load_windows(TESTS[name], LabelledWindow)]
        matched = [match(extraction, window, judge) for extraction, window in zip(extractions, gold, strict=True)]
        said = [each for matching in matched for each in matching.verdicts]
        right, wrong = said.count("right"), said.count("wrong")
        required = sum(len(window.preferences) for window in gold)
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
    parser.add_argument("--mix", type=Path, default=Path("runs/mix-all/train.parquet"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS), metavar="NAME")
    args = parser.parse_args()
    windows = load_windows(args.mix, LabelledWindow)
    judge = SemanticJudge(MiniLM().embed)
    rows: dict[str, dict[str, float]] = {}
    for name in tqdm(args.only, desc="runs", unit="run"):
        run = RUNS[name]
        rows[name] = measure(answer(run, windows, args.output / folder_name(name, run)), judge, run)
        (args.output / "ablations.md").write_text("\n".join(table(rows)) + "\n", encoding="utf-8")
        if any(name.endswith(" labelled windows") for name in rows):
            draw(rows).savefig(args.output / "curve.png", dpi=120)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
