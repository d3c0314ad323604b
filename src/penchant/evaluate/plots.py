"""The report's plots, drawn without a display; colours that colour-blind readers can tell apart, and line styles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from penchant.evaluate.assess import Assessment
from penchant.evaluate.calibration import TARGET_RECALL
from penchant.evaluate.metrics import Estimate
from penchant.evaluate.pages import COLOURS
from penchant.evaluate.report import Report

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", ":")
_NAME_LIMIT = 40


def draw_reliability(report: Report) -> Figure:
    """Draw a reliability diagram for each extractor: the share of right rules over confidence, in ten bins."""
    columns = min(3, len(report.extractors))
    rows = math.ceil(len(report.extractors) / columns)
    figure = Figure(figsize=(4.2 * columns + 0.4, 4.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, assessment in zip(grid, report.extractors, strict=False):
        _draw_bins(axes, assessment)
    for axes in list(figure.axes)[len(report.extractors) :]:
        axes.remove()
    figure.axes[0].legend(loc="upper left", fontsize=9)
    figure.supxlabel("confidence (numbers: rules in the bin)")
    figure.supylabel("share of rules that are right")
    return figure


def draw_precision_recall(report: Report) -> Figure:
    """Draw precision over recall as the confidence threshold falls; a large mark is the end, where all rules count."""
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    axes = figure.subplots()
    styles = zip(cycle(COLOURS), cycle(_MARKERS), cycle(_LINES), strict=False)
    for assessment, (colour, marker, line) in zip(report.extractors, styles, strict=False):
        points = assessment.curve.points
        recalls, precisions = [point.recall for point in points], [point.precision for point in points]
        axes.plot(recalls, precisions, line, color=colour, marker=marker, markersize=3, label=_name(assessment))
        axes.plot(recalls[-1:], precisions[-1:], marker, color=colour, markersize=10)
        if point := assessment.curve.operating:
            text = f"confidence ≥ {point.threshold:.2f}"
            axes.annotate(text, (point.recall, point.precision), (-8, 8), textcoords="offset points", ha="right")
    axes.axvline(TARGET_RECALL, color="0.4", linewidth=1)
    axes.text(TARGET_RECALL - 0.01, 1.02, f"{TARGET_RECALL:.1%} recall", ha="right", va="bottom", color="0.3")
    _share_axis(axes, "x", "recall (required rules found)")
    _share_axis(axes, "y", "precision (extracted rules that are right)")
    axes.legend(loc="best", title="large mark: every rule")
    return figure


def draw_tags(report: Report) -> Figure:
    """Draw F1 and the share of perfect windows for each tag, with 95% intervals."""
    tags = [part for part in report.extractors[0].slices if part.kind == "tag"]
    count = len(report.extractors)
    figure = Figure(figsize=(11, 1.8 + max(1, len(tags)) * (0.14 + 0.12 * count)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    styles = zip(cycle(COLOURS), cycle(_MARKERS), strict=False)
    for place, (assessment, (colour, marker)) in enumerate(zip(report.extractors, styles, strict=False)):
        offset = 0.6 * ((place + 0.5) / count - 0.5)
        scores = [part.scores for part in assessment.slices if part.kind == "tag"]
        for axes, estimates in ((left, [s.f1 for s in scores]), (right, [s.perfect for s in scores])):
            for row, estimate in enumerate(estimates):
                _draw_estimate(axes, row + offset, estimate, colour, marker)
        left.plot([], [], marker, color=colour, label=_name(assessment))
    left.set_yticks(range(len(tags)), [f"{part.name[:_NAME_LIMIT]} ({part.scores.windows})" for part in tags])
    left.set_ylim(max(1, len(tags)) - 0.5, -0.5)
    left.set_ylabel("tag (windows)")
    _share_axis(left, "x", "F1 (none where no rule is required)")
    _share_axis(right, "x", "perfect windows: all required rules, none wrong")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


PLOTS: Mapping[str, Callable[[Report], Figure]] = {
    "reliability.png": draw_reliability,
    "precision_recall.png": draw_precision_recall,
    "by_tag.png": draw_tags,
}
"""The plots by the names of their files."""


def _draw_bins(axes: Axes, assessment: Assessment) -> None:
    calibration = assessment.calibration
    axes.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="calibrated")
    means = [part.confidence for part in calibration.equal_width], [part.right for part in calibration.equal_width]
    axes.plot(*means, "o", color=COLOURS[1], markersize=5, label="mean confidence of the bin")
    for part in calibration.equal_width:
        axes.bar(part.low, part.right, part.high - part.low, align="edge", color=COLOURS[0], edgecolor="white")
        axes.text((part.low + part.high) / 2, part.right + 0.02, str(part.rules), ha="center", fontsize=9)
    error = "no rules" if calibration.ece is None else f"ECE {calibration.ece:.3f}, {calibration.rules} rules"
    axes.set_title(f"{_name(assessment)}\n{error}", fontsize=11)
    _share_axis(axes, "x", "")
    _share_axis(axes, "y", "")


def _draw_estimate(axes: Axes, row: float, estimate: Estimate, colour: str, marker: str) -> None:
    if estimate.value is None:
        return
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=1.2)
    axes.plot(estimate.value, row, marker, color=colour, markersize=4.5)


def _share_axis(axes: Axes, which: str, label: str) -> None:
    """Label an axis that runs from 0% to 100%, and rule it lightly."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}lim": (-0.02, 1.08 if which == "y" else 1.02), f"{which}label": label})
    axis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="both", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def _name(assessment: Assessment) -> str:
    """Return the name as plain text: a dollar sign would begin a formula, an underscore hide a legend's entry."""
    return assessment.spec.name[:_NAME_LIMIT].replace("$", r"\$").lstrip("_") or "_"
