"""A report on retrieval -> Markdown for people, and a plot."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from penchant.evaluate.metrics import LEAST_WINDOWS, RESAMPLES
from penchant.evaluate.pages import COLOURS, decimal, percent, plain, table, title_lines
from penchant.evaluate.retrieval import MEASURES, NOTES, RetrievalReport, SetResult, SystemResult
from penchant.retrieve.rerank import FLOOR

PLOT = "retrieval.png"

_TITLES = ("Recall@3", "Recall@5", "nDCG@5", "MRR")
_MISSES = 5


def render(report: RetrievalReport) -> str:
    """Render a report; the plot is expected beside it."""
    lines = list(title_lines("How well notes are found", report.source))
    for result in report.sets:
        lines += [*headline(result), *_silence(result), *_prompts(result), *_misses(result)]
    return "\n".join([*lines, f"![retrieval]({PLOT})", "", *_reading(), ""])


def headline(result: SetResult) -> Iterator[str]:
    """Yield the lines of a set's main table."""
    users = result.queries.users
    queries = [query for user in users for query in user.queries]
    some = sum(bool(query.relevant) for query in queries)
    notes = np.mean([len(user.notes) for user in users])
    yield f"## {result.queries.name}"
    yield ""
    yield (
        f"{len(users)} users with {notes:.1f} notes each on average; {some} queries to which a note applies, and"
        f" {len(queries) - some} to which none does."
    )
    yield from (plain(remark) for remark in result.queries.remarks)
    yield ""
    rows = [
        (
            plain(system.name),
            *(percent(getattr(system, name)) for name in MEASURES[:2]),
            *(decimal(getattr(system, name)) for name in MEASURES[2:]),
            decimal(system.gain, signed=True) if place else "–",
        )
        for place, system in enumerate(result.systems)
    ]
    yield from table(("system", *_TITLES, f"nDCG@5 against {plain(result.systems[0].name)}"), rows)


def draw(report: RetrievalReport) -> Figure:
    """Draw for each set the measures with their intervals, and what a floor under the best score tells."""
    figure = Figure(figsize=(11, 4.6 * len(report.sets)), layout="constrained")
    for result, (left, right) in zip(report.sets, figure.subplots(len(report.sets), 2, squeeze=False), strict=True):
        _draw_measures(left, result)
        _draw_silence(right, result)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    return figure


def _silence(result: SetResult) -> Iterator[str]:
    yield '### "Nothing applies"'
    yield ""
    yield "A system says so if its best score is below a floor. Each half of the users is measured with the floor of"
    yield "the best balanced accuracy on the other half; the last column is the floor chosen on all, for use."
    yield ""
    rows = []
    for system in result.systems:
        silence = system.silence
        floors = " and ".join("none" if floor is None else f"{floor:.3g}" for floor in silence.floors)
        rows.append(
            (
                plain(system.name),
                f"{silence.right} of {silence.said}",
                percent(silence.precision),
                percent(silence.recall),
                percent(silence.balanced),
                floors,
                "–" if silence.overall is None else f"{silence.overall:.4g}",
            )
        )
    columns = ("system", "right of said", "precision", "recall", "balanced accuracy", "floors of the halves", "floor")
    yield from table(columns, rows)


def _prompts(result: SetResult) -> Iterator[str]:
    for system in result.systems:
        if system.prompts:
            yield "### What a prompt would hold"
            yield ""
            yield f"The best {NOTES} notes of {plain(system.name)} from a probability on. The loop's floor is"
            yield f"{math.exp(FLOOR):.2g}."
            yield ""
            rows = [
                (f"{each.floor:g}", percent(each.recall), percent(each.precision), percent(each.silent))
                for each in system.prompts
            ]
            titles = (
                "least probability",
                "of what applies, shown",
                "of what is shown, applies",
                "of no need, none shown",
            )
            yield from table(titles, rows)


def _misses(result: SetResult) -> Iterator[str]:
    best = max(result.systems, key=lambda system: system.ndcg_at_5.value or 0.0)
    users = {user.id: user for user in result.queries.users}
    texts = {(user.id, query.id): query.text for user in result.queries.users for query in user.queries}
    found = [(ranking.measures.ndcg_at_5, ranking) for ranking in best.rankings if ranking.measures]
    worst = [ranking for value, ranking in sorted(found, key=lambda pair: pair[0])[:_MISSES] if value < 1]
    if not worst:
        return
    yield f"### The worst rankings of {plain(best.name)}"
    yield ""
    rows = [
        (
            plain(ranking.user),
            plain(texts[ranking.user, ranking.query]),
            "; ".join(plain(users[ranking.user].notes[place]) for place in ranking.relevant),
            plain(users[ranking.user].notes[ranking.best[0]]),
        )
        for ranking in worst
    ]
    yield from table(("user", "query", "what applies", "what came first"), rows)


def _reading() -> Iterator[str]:
    yield "## How to read this"
    yield ""
    yield "- Recall@k: of the notes that apply to a query, the share among the first k. Where more than k apply, it"
    yield "  cannot be 100%. The ranking is of one user's notes. Means over the queries to which a note applies."
    yield "- MRR: mean of 1 / rank of the first note that applies. nDCG@5: 1 is a perfect order."
    yield "- Notes of the same score are in no order; the mean over their orders counts."
    yield "- The scores of the hybrid are ranks, which say little about whether anything applies at all."
    yield '- Precision and recall of "nothing applies" are about queries: of those of which it is said, the share to'
    yield "  which indeed no note applies; and of those to which none does, the share of which it is said."
    yield f"- In parentheses: 95% bootstrap intervals over {RESAMPLES:,} resamples of users; none below {LEAST_WINDOWS}"
    yield "  users. The floors are not chosen anew in each resample."
    yield "- Everything, query by query, is in report.json; notes are counted from 0 there."


def _draw_measures(axes: Axes, result: SetResult) -> None:
    count = len(result.systems)
    for place, (system, colour) in enumerate(zip(result.systems, COLOURS, strict=False)):
        offset = 0.7 * ((place + 0.5) / count - 0.5)
        for column, name in enumerate(MEASURES):
            found = getattr(system, name)
            if found.value is None:
                continue
            axes.bar(column + offset, found.value, 0.7 / count, color=colour, label=None if column else system.name)
            if found.low is not None and found.high is not None:
                axes.plot([column + offset] * 2, [found.low, found.high], color="0.2", linewidth=1)
    axes.set_xticks(range(len(MEASURES)), _TITLES)
    axes.set_ylim(0, 1.02)
    axes.set_title(result.queries.name)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def _draw_silence(axes: Axes, result: SetResult) -> None:
    """Draw the precision of "nothing applies" over its recall as the floor rises, and the point that was measured."""
    for system, colour in zip(result.systems, COLOURS, strict=False):
        recalls, precisions = silence_curve(system)
        axes.plot(recalls, precisions, color=colour, linewidth=1.4)
        point = system.silence
        if point.recall.value is not None and point.precision.value is not None:
            axes.plot(point.recall.value, point.precision.value, "o", color=colour, markersize=8)
    axes.set(xlim=(-0.02, 1.02), ylim=(0, 1.04), xlabel="recall", ylabel="precision")
    axes.set_title('"nothing applies", as the floor rises (mark: as measured)')
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def silence_curve(system: SystemResult) -> tuple[list[float], list[float]]:
    """Return recall and precision of "nothing applies" for every floor that says it of some query."""
    tops = np.array([ranking.top for ranking in system.rankings])
    none = np.array([not ranking.relevant for ranking in system.rankings])
    if not none.any():
        return [], []
    order = np.argsort(tops, kind="stable")
    right, ends = np.cumsum(none[order]), np.append(tops[order][1:] != tops[order][:-1], True)
    precisions = right / np.arange(1, len(tops) + 1)
    return (right / none.sum())[ends].tolist(), precisions[ends].tolist()
