"""What more data would bring: dev F1 against the number of labelled and of synthetic windows.

    python benchmarks/learning_curves.py --output runs/curves [--epochs 1]

Trains the recipe of the embedded model on shares of its mix: 10, 25, 50 and 100% of the labelled windows beside all
synthetic ones, and none, half and all of the synthetic ones beside 25% of the labelled. The learning rate falls to
nothing in each run. Greedy answers to dev are counted, without gate and calibration. A run that was killed goes on
where it stopped, and points that are done are not made again. Needs: pip install 'penchant[train]', and hours.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from penchant.data.records import load_windows, write_windows
from penchant.evaluate.embedding import MiniLM
from penchant.evaluate.matching import SemanticJudge, match
from penchant.extract.embedded import EmbeddedExtractor
from penchant.train.export import export
from penchant.train.recipe import read_recipe
from penchant.train.sft import train
from penchant.train.trained import load_trained
from penchant.types import LabelledWindow

RECIPE = Path("recipes/smollm2-135m-cpu.yaml")
DEV = Path("data/labelled/dev.jsonl")


@dataclass(frozen=True)
class Point:
    """A share of the labelled windows, and of the synthetic ones."""

    labelled: float
    synthetic: float

    @property
    def name(self) -> str:
        """A folder's name."""
        return f"labelled-{self.labelled:g}-synthetic-{self.synthetic:g}"


POINTS = (
    Point(0.1, 1), Point(0.25, 1), Point(0.5, 1), Point(0.25, 0), Point(0.25, 0.5), Point(1, 1),
)  # fmt: skip


def choose(windows: Sequence[LabelledWindow], point: Point) -> list[LabelledWindow]:
    """Return the windows of a point; a larger share holds the smaller ones."""
    parts = [[w for w in windows if (w.labeller == "synthesis") is made] for made in (False, True)]
    kept: list[LabelledWindow] = []
    for part, share in zip(parts, (point.labelled, point.synthetic), strict=True):
        ordered = sorted(part, key=lambda window: window.id)
        random.Random(0).shuffle(ordered)
        kept += ordered[: round(share * len(ordered))]
    return kept


def run(point: Point, windows: Sequence[LabelledWindow], folder: Path, epochs: int) -> dict[str, float]:
    """Train and measure a point, or read what was measured before."""
    result = folder / "result.json"
    mine = choose(windows, point)
    made = sum(window.labeller == "synthesis" for window in mine)
    counts = {"labelled": len(mine) - made, "synthetic": made, "epochs": epochs}
    if not result.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_windows(folder / "train.jsonl", mine)
        recipe = read_recipe(RECIPE).model_copy(
            update={"train": [folder / "train.jsonl"], "evaluation": None, "num_train_epochs": epochs}
        )
        train(recipe, folder / "run")
        result.write_text(json.dumps(counts | measure(folder / "run")) + "\n", encoding="utf-8")
    found: dict[str, float] = json.loads(result.read_text(encoding="utf-8"))
    if {name: found[name] for name in counts} != counts:
        raise SystemExit(f"{folder} holds a point with other epochs or another mix: give another --output")
    return found


def measure(trained: Path) -> dict[str, float]:
    """Return precision, recall and F1 of the greedy answers on dev, by meaning."""
    gold, judge = load_windows(DEV, LabelledWindow), SemanticJudge(MiniLM().embed)
    with tempfile.TemporaryDirectory() as folder:
        export(load_trained(trained), Path(folder) / "exported", ["embedded"], gold[:8])
        with EmbeddedExtractor(str(Path(folder) / "exported" / "embedded")) as extractor:
            found = list(extractor.extract_many([window.turns for window in gold]))
    verdicts = [match(result, window, judge).verdicts for result, window in zip(found, gold, strict=True)]
    right = sum(each == "right" for window in verdicts for each in window)
    wrong = sum(each == "wrong" for window in verdicts for each in window)
    required = sum(len(window.preferences) for window in gold)
    precision, recall = right / max(1, right + wrong), right / required
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / max(1e-9, precision + recall)}


def draw(rows: Sequence[dict[str, float]]) -> Figure:
    """Draw F1 against the number of labelled windows, and of synthetic ones."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    most = max(row["synthetic"] for row in rows)
    by_labelled = sorted((row for row in rows if row["synthetic"] == most), key=lambda row: row["labelled"])
    few = sorted(row["labelled"] for row in rows if row["synthetic"] == 0)[0]
    by_synthetic = sorted((row for row in rows if row["labelled"] == few), key=lambda row: row["synthetic"])
    for axis, name, points in zip(axes, ("labelled", "synthetic"), (by_labelled, by_synthetic), strict=True):
        axis.plot([row[name] for row in points], [row["f1"] for row in points], "o-", color="#0072B2")
        axis.set(xlabel=f"{name} windows", xlim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="F1 on dev, greedy", title=f"beside {most:,.0f} synthetic")
    axes[1].set(title=f"beside {few:,.0f} labelled")
    return figure


def main() -> None:
    """Parse the command line, train each point and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mix", type=Path, default=Path("runs/mix/train.parquet"), help="of recipes/mix-small.yaml")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()
    windows = load_windows(args.mix, LabelledWindow)
    rows = []
    for point in POINTS:
        rows.append(run(point, windows, args.output / point.name, args.epochs))
        row = rows[-1]
        print(
            f"| {row['labelled']:,} | {row['synthetic']:,} | {row['precision']:.1%} | {row['recall']:.1%} |"
            f" {row['f1']:.1%} |",
            flush=True,
        )
    draw(rows).savefig(args.output / "curves.png", dpi=120)


if __name__ == "__main__":
    main()
