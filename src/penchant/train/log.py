"""The log of a run: a CSV file that a resumed run continues without a gap, and a picture of the loss curve."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from transformers import ProgressCallback, TrainerCallback

from penchant.errors import ModelError

COLUMNS = ("step", "epoch", "loss", "grad_norm", "learning_rate", "num_input_tokens_seen", "eval_loss")
"""``loss``: cross-entropy per answer token; ``eval_loss``: its mean over batches; ``num_input_tokens_seen``: of prompts
too, not padding."""


LOG = "log.csv"
"""The log in a run's folder."""


class Progress(ProgressCallback):
    """Show the loss beside the bar; transformers' own would print it."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the newest loss."""
        if self.training_bar is not None and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)


class Divergence(TrainerCallback):
    """End a run whose loss or gradient is no number any more; no checkpoint takes that in."""

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Raise a ``ModelError`` that says what to do."""
        for name in ("loss", "grad_norm"):
            value = kwargs["logs"].get(name, 0.0)
            if not math.isfinite(value):
                where = f"step {state.global_step}: {name} is {value}"
                raise ModelError(f"{where}, the run has diverged: lower learning_rate, in a new run")


class CsvLog(TrainerCallback):
    """Write ``log.csv`` and ``loss.png`` in the run's folder."""

    def __init__(self, folder: Path) -> None:
        self._path, self._picture = folder / LOG, folder / "loss.png"

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the lines of the steps that are done; a killed run may have logged more."""
        if state.is_world_process_zero:
            rows = [row for row in read_log(self._path) if int(row["step"]) <= state.global_step]
            part = self._path.with_suffix(".part")
            with part.open("w", encoding="utf-8", newline="") as out:
                writer = csv.DictWriter(out, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
            part.replace(self._path)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add a line for a training loss or an evaluation loss."""
        logs: dict[str, float] = kwargs["logs"]
        if state.is_world_process_zero and ("loss" in logs or "eval_loss" in logs):
            with self._path.open("a", encoding="utf-8", newline="") as out:
                writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore")
                writer.writerow(logs | {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)})

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw the curve as far as it goes."""
        if state.is_world_process_zero:
            draw_loss(self._path, self._picture)


def read_log(path: Path) -> list[dict[str, str]]:
    """Return the lines of a log, torn ones left out; none if there is no log."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if str(row["step"]).isdigit() and row["eval_loss"] is not None]


def draw_loss(log: Path, picture: Path) -> None:
    """Draw the training and evaluation loss of a log against the steps."""
    rows = read_log(log)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for column, label, style in (("loss", "training", "-"), ("eval_loss", "evaluation", "o--")):
        points = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, linewidth=1.2, markersize=4)
    axes.set(xlabel="step", ylabel="cross-entropy per answer token", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=120)
