"""A report on merging -> Markdown for people, and a plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from penchant.data.pairs import RELATIONS
from penchant.evaluate.merging import PIPELINE, JudgedPair, MergingReport, RelationScores
from penchant.evaluate.metrics import LEAST_WINDOWS, RESAMPLES
from penchant.evaluate.pages import COLOURS, percent, plain, table, title_lines
from penchant.memory.merge import LEAST_COSINE, SURE, SURE_AT_ONE

PLOT = "thresholds.png"

_MISTAKES = 5
_LOST = 20
_COLUMNS = ("same matter: precision", "recall", "same: precision", "recall", "contradicts: precision", "recall")


def render(report: MergingReport) -> str:
    """Render a report; the plot is expected beside it."""
    parts = (
        title_lines("How well the relation of two rules is told", report.source),
        headline(report),
        _thresholds(report),
        _confusions(report),
        _mistakes(report.judged),
        side_by_side(report),
        _reading(),
    )
    return "\n".join([line for part in parts for line in part] + [""])


def headline(report: MergingReport) -> Iterator[str]:
    """Yield the lines of the main table."""
    counts = ", ".join(f"{sum(row)} {relation}" for relation, row in zip(RELATIONS, report.confusion, strict=True))
    yield "## Results"
    yield ""
    yield f"{report.pairs} pairs of an older and a newer rule: {counts}."
    yield ""
    columns = ("method", *_COLUMNS, "pairs right")
    rows = [
        (plain(m.name), *_cells(m.matter), *_cells(m.same), *_cells(m.contradicts), percent(m.accuracy))
        for m in report.methods
    ]
    yield from table(columns, rows)


def draw(report: MergingReport) -> Figure:
    """Draw precision and recall over the least probability of the same matter that counts."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, 3, sharey=True), ("matter", "same", "contradicts"), strict=True):
        for which, colour, marker in (("precision", COLOURS[0], "o"), ("recall", COLOURS[1], "s")):
            found = [(point.least, getattr(getattr(point, name), which)) for point in report.operating]
            known = [(least, each) for least, each in found if each.value is not None]
            axes.plot(
                [x for x, _ in known], [each.value for _, each in known], color=colour, marker=marker, label=which
            )
            for least, each in known:
                if each.low is not None and each.high is not None:
                    axes.plot([least, least], [each.low, each.high], color=colour, linewidth=1)
        axes.axvline(report.threshold, color="0.5", linewidth=1, linestyle="--")
        axes.set(title="same matter" if name == "matter" else name, xlabel="least probability", ylim=(0, 1.03))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    figure.axes[0].legend(loc="lower left")
    return figure


def _thresholds(report: MergingReport) -> Iterator[str]:
    yield "## The reader alone, over the least probability that counts"
    yield ""
    rows = [
        (
            f"**{point.least:g}**" if point.least == report.threshold else f"{point.least:g}",
            str(point.matter.said),
            *_cells(point.matter),
            *_cells(point.same),
            *_cells(point.contradicts),
        )
        for point in report.operating
    ]
    yield from table(("probability ≥", "said", *_COLUMNS), rows)
    yield f"![precision and recall over the least probability]({PLOT})"
    yield ""


def _confusions(report: MergingReport) -> Iterator[str]:
    unseen = ", ".join(f"{count} {name}" for name, count in zip(RELATIONS, report.unseen, strict=True))
    yield "## What is taken for what"
    yield ""
    yield f"{PIPELINE} as it is used: the older rule is a card, and the newer one comes in. The reader is asked only if"
    yield f"their cosine is at least {LEAST_COSINE:g} (below it: {unseen}), and counts from {SURE:g} on; under the same"
    yield f"condition from {SURE_AT_ONE:g} on."
    yield ""
    yield from _confusion(report.confusion)
    yield "The reader's likeliest relation, whatever its probability:"
    yield ""
    yield from _confusion(report.confusion_likeliest)


def _confusion(counts: Sequence[Sequence[int]]) -> Iterator[str]:
    rows = [(name, *map(str, row)) for name, row in zip(RELATIONS, counts, strict=True)]
    yield from table(("it is", *(f"said: {name}" for name in RELATIONS)), rows)


def _mistakes(judged: Sequence[JudgedPair]) -> Iterator[str]:
    yield f"## Mistakes of {PIPELINE}"
    yield ""
    for gold in RELATIONS:
        for said in RELATIONS:
            wrong = [pair for pair in judged if (pair.gold, pair.said) == (gold, said) and gold != said]
            if not wrong:
                continue
            place = RELATIONS.index(said)
            shown = sorted(wrong, key=lambda pair: -pair.chances[place])[:_MISTAKES]
            yield f"### {gold}, taken for {said}: {len(wrong)}"
            yield ""
            rows = [
                (
                    plain(pair.id),
                    plain(pair.old),
                    plain(pair.new),
                    *(f"{chance:.2f}" for chance in pair.chances),
                    f"{pair.cosine:.2f}",
                )
                for pair in shown
            ]
            yield from table(("pair", "older", "newer", *(f"P({name})" for name in RELATIONS), "cosine"), rows)


def side_by_side(report: MergingReport) -> Iterator[str]:
    """Yield the lines about rules that all hold; none if no users were given."""
    found = report.losses
    if not found:
        return
    yield "## Rules of one user that all hold"
    yield ""
    lost = f"{len(found.lost)} are lost ({len(found.lost) / found.rules:.1%})"
    yield f"The {found.rules} rules of {found.users} users, one after the other into an empty memory: {lost}, because a"
    yield "newer one is taken for the same matter."
    yield ""
    rows = [
        (f"**{least:g}**" if least == report.threshold else f"{least:g}", str(taken), f"{taken / found.users:.2f}")
        for least, taken in found.taken
    ]
    close = f"of {found.close} close pairs, taken for the same matter"
    yield from table(("the reader alone: probability ≥", close, "a user"), rows)
    shown = [(plain(each.user), plain(each.old), plain(each.new)) for each in found.lost[:_LOST]]
    yield from table(("user", "lost", "to"), shown)


def _reading() -> Iterator[str]:
    yield "## How to read this"
    yield ""
    yield "- Precision: of the pairs that are taken for a relation, the share that have it; recall: of those that have"
    yield "  it, the share that are taken for it. Same matter: the same wish or a contrary one. A pair that is wrongly"
    yield "  taken for it loses a wish, a missed one keeps two cards. The last words count either way: a contrary wish"
    yield "  taken for the same one, or the reverse, only counts wrongly how often the wish was said."
    yield "- Equal conditions, and the lengths of the rules (each in thirds), are shortcuts: for each half of the"
    yield "  pairs, they say the relation that was commonest with that feature in the other half. A method that is no"
    yield "  better than these has learnt nothing about what rules mean."
    yield f"- In parentheses: 95% bootstrap intervals over {RESAMPLES:,} resamples of pairs; none below {LEAST_WINDOWS}"
    yield "  pairs, and –: undefined."
    yield "- Everything, pair by pair, is in report.json."


def _cells(scores: RelationScores) -> tuple[str, str]:
    return percent(scores.precision), percent(scores.recall)
