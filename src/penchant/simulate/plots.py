"""The simulation's plots, drawn without a display."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from penchant.evaluate.pages import COLOURS
from penchant.simulate.arms import PAPER
from penchant.simulate.measure import WIDTH, Metric
from penchant.simulate.report import OURS, RIVAL, Report

_LINES = ("-", "--", "-.", ":")

_UNDRAWN = tuple(PAPER)[1:]
"""The ablation of the paper's vectors: their lines hide each other."""


def draw_enforcements(report: Report) -> Figure:
    """Draw enforcement turns against the session's number, by arm."""
    return _draw(report, "enforcements", "turns in which a rule was enforced, a session")


def draw_timeouts(report: Report) -> Figure:
    """Draw the share of sessions that the user gave up against the session's number, by arm."""
    return _draw(report, "timeout", "share of the sessions that the user gave up")


def draw_tokens(report: Report) -> Figure:
    """Draw what the user wrote against the session's number, by arm."""
    return _draw(report, "tokens", "tokens that the user wrote, a session (estimate)")


def draw_recall(report: Report) -> Figure:
    """Draw Recall@J against the session's number, by arm."""
    figure = _draw(report, "recall", "Recall@J of the known rules that apply")
    figure.axes[0].set_ylim(0, 1.02)
    return figure


PLOTS: Mapping[str, Callable[[Report], Figure]] = {
    "enforcements.png": draw_enforcements,
    "timeout.png": draw_timeouts,
    "tokens.png": draw_tokens,
    "recall.png": draw_recall,
}
"""The plots by the names of their files."""


def _draw(report: Report, metric: Metric, label: str) -> Figure:
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    axes = figure.subplots()
    styles = zip(cycle(COLOURS), cycle(_LINES), strict=False)
    curves = [(name, values) for name, values in report.curves[metric].items() if name not in _UNDRAWN]
    for (name, estimates), (colour, line) in zip(curves, styles, strict=False):
        values = [estimate.value for estimate in estimates]
        if all(value is None for value in values):
            continue
        numbers = range(1, len(values) + 1)
        axes.plot(numbers, np.array(values, np.float64), line, color=colour, linewidth=1.6, label=name)
        if name in (OURS, RIVAL):
            low, high = (np.array([getattr(each, end) for each in estimates], np.float64) for end in ("low", "high"))
            axes.fill_between(numbers, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set(xlabel=f"session (running mean over {WIDTH})", ylabel=label)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="both", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    if axes.lines:
        axes.legend(loc="best", fontsize=8, ncols=2)
    return figure
