"""A report on rewards -> Markdown for people, and a plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from penchant.data.pairs import LABELS
from penchant.evaluate.metrics import LEAST_WINDOWS, RESAMPLES
from penchant.evaluate.pages import COLOURS, decimal, percent, plain, table, title_lines
from penchant.evaluate.rewards import ALL, SIGNS, ZONE, RewardsReport

PLOT = "rewards.png"


def render(report: RewardsReport) -> str:
    """Render a report; the plot is expected beside it."""
    parts = (
        title_lines("How well rewards are read from reactions", report.source),
        headline(report),
        _parts(report),
        _confusions(report),
        _labels(report),
        _reading(report),
    )
    return "\n".join([line for part in parts for line in part] + [""])


def headline(report: RewardsReport) -> Iterator[str]:
    """Yield the lines of the main table."""
    which = "kept apart from training" if report.apart else "with those that the pair reader was trained on"
    yield "## Results"
    yield ""
    yield f"{report.reactions} reactions to {report.exchanges} answers, {which}."
    yield ""
    rows = []
    for estimator in report.estimators:
        scores = next(part.scores for part in estimator.parts if part.name == ALL)
        figures = (percent(scores.accuracy), percent(scores.balanced), decimal(scores.spearman))
        rows.append((plain(estimator.name), *figures, f"±{estimator.dead_zone:.3g}"))
    yield from table(("reward", "signs right", "mean over the three signs", "Spearman", "dead zone"), rows)


def draw(report: RewardsReport) -> Figure:
    """Draw each estimator's rewards over the true ones, by label."""
    drawn = report.estimators[:-1]  # the last one is constant
    figure = Figure(figsize=(5.2 * len(drawn), 4.8), layout="constrained")
    jitter = np.random.default_rng(0)
    for axes, estimator in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        axes.axhspan(-estimator.dead_zone, estimator.dead_zone, color="0.92")
        axes.axvspan(-ZONE, ZONE, color="0.92")
        for label, colour in zip(LABELS, COLOURS, strict=True):
            mine = [case for case in report.cases if case.label == label]
            places = np.array([case.reward for case in mine]) + jitter.uniform(-0.02, 0.02, len(mine))
            axes.plot(places, [case.estimates[estimator.name] for case in mine], ".", color=colour, label=label)
        axes.set(title=estimator.name, xlabel="reward", ylabel="estimate", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    return figure


def _parts(report: RewardsReport) -> Iterator[str]:
    yield "## Parts of the data: signs right; Spearman"
    yield ""
    rows = [
        (
            plain(part.name),
            str(part.reactions),
            *(
                f"{percent(scores.accuracy)}; {decimal(scores.spearman)}"
                for scores in (estimator.parts[place].scores for estimator in report.estimators)
            ),
        )
        for place, part in enumerate(report.estimators[0].parts)
    ]
    yield from table(("part", "reactions", *(plain(each.name) for each in report.estimators)), rows)
    yield f"![estimates over rewards]({PLOT})"
    yield ""


def _confusions(report: RewardsReport) -> Iterator[str]:
    yield "## Signs, true and estimated"
    yield ""
    rows = [
        (plain(estimator.name), name, *map(str, row))
        for estimator in report.estimators
        for name, row in zip(SIGNS, estimator.confusion, strict=True)
    ]
    yield from table(("reward", "it is", *(f"estimated: {name}" for name in SIGNS)), rows)


def _labels(report: RewardsReport) -> Iterator[str]:
    labels = report.labels
    yield "## Labels that the reader gives"
    yield ""
    yield f"Right: {percent(labels.accuracy)}; always {labels.commonest}: {percent(labels.commonest_accuracy)}."
    yield ""
    rows = [
        (name, *map(str, row), _share(row, place))
        for place, (name, row) in enumerate(zip(LABELS, labels.confusion, strict=True))
    ]
    yield from table(("it is", *LABELS, "recall"), rows)


def _share(row: Sequence[int], place: int) -> str:
    return f"{row[place] / sum(row):.1%}" if sum(row) else "–"


def _reading(report: RewardsReport) -> Iterator[str]:
    yield "## How to read this"
    yield ""
    yield f"- A reward within ±{ZONE:g} has no sign, nor has an estimate within its dead zone."
    if report.chosen_on:
        yield f"- Unless one is given, a dead zone is that with the most signs right on {report.chosen_on} reactions to"
        yield "  other answers. The reader was trained on these, so that its zone may be too narrow."
    yield "- Spearman: rank correlation of estimates and rewards; a constant has none (–)."
    yield "- ASCII letters tell languages apart only roughly: English and other text without accents, text with some,"
    yield "  and other scripts."
    yield f"- In parentheses: 95% bootstrap intervals over {RESAMPLES:,} resamples of answers with all reactions to"
    yield f"  them; none below {LEAST_WINDOWS} answers."
    yield "- Everything, reaction by reaction, is in report.json."
