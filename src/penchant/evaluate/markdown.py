"""A report -> Markdown for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penchant.evaluate.assess import Assessment, CloseCall
from penchant.evaluate.calibration import TARGET_RECALL
from penchant.evaluate.matching import DUPLICATE_THRESHOLD
from penchant.evaluate.metrics import LEAST_WINDOWS, RESAMPLES, Comparison, Estimate, RuleScores
from penchant.evaluate.pages import percent, plain, table
from penchant.evaluate.report import Header, Report

_RULE_COLUMNS = ("precision", "recall", "F1", "perfect windows")
RESULT_COLUMNS = ("valid JSON", *_RULE_COLUMNS, "negative windows with a rule", "duplicates", "eval loss")

_IDS = 20
_ERRORS = 5
_PUBLISHED = (
    "Qwen3-0.6B extractor as published, on its own test set that is not public: not comparable",
    *("99.7%", "37.7%", "97.5%", "–", "–", "–", "–", "0.1611"),
)
_SLICES = {"tag": "tag", "language": "language", "turns": "turns in the window", "length": "length of the text"}


def render(report: Report) -> str:
    """Render a report; the plots are expected beside it."""
    parts = (
        _header(report.header),
        headline(report),
        _exact(report),
        _failures(report.extractors),
        _confidence(report.extractors),
        _speed(report.extractors),
        _comparisons(report.comparisons),
        _slices(report.extractors),
        _close_calls(report),
        _reading(report.header),
    )
    return "\n".join(line for part in parts for line in part)


def headline(report: Report) -> Iterator[str]:
    """Yield the lines of the main table."""
    rows = [(plain(a.spec.name), *result_cells(a)) for a in report.extractors]
    yield "## Results"
    yield ""
    yield from table(("extractor", *RESULT_COLUMNS), [*rows, _PUBLISHED])


def result_cells(assessment: Assessment) -> tuple[str, ...]:
    """Return an extractor's cells under ``RESULT_COLUMNS``."""
    return (
        percent(assessment.valid),
        *_rule_cells(assessment.semantic),
        percent(assessment.noise),
        percent(assessment.duplicates),
        _number(assessment.loss, "not measured"),
    )


def _rule_cells(scores: RuleScores) -> tuple[str, ...]:
    return tuple(percent(rate) for rate in (scores.precision, scores.recall, scores.f1, scores.perfect))


def _header(header: Header) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in header.versions.items())
    yield "# How good the extractors are"
    yield ""
    yield f"- date: {header.date}"
    yield f"- command: `{header.command.replace('`', '')}`"
    yield f"- data: {plain(header.data)}, sha256 {header.sha256}"
    yield (
        f"- {header.windows} windows, {header.negatives} of them negative (no rule to be found); {header.required}"
        f" required and {header.optional} optional rules"
    )
    yield (
        f"- judge: {plain(header.judge)}, cosine of actions at least {header.action_threshold:g}, and of conditions at"
        f" least {header.condition_threshold:g} unless one of them is general"
    )
    yield f"- hardware: {plain(header.hardware)}"
    yield f"- versions: {versions}"
    yield ""


def _exact(report: Report) -> Iterator[str]:
    yield "## The same without the judge"
    yield ""
    yield "Only rules whose condition and action are the same text, but for case, spaces, punctuation at the end, and"
    yield '"please" or "always" at the beginning, count as the same: a lower bound.'
    yield ""
    rows = [(plain(a.spec.name), *_rule_cells(a.exact)) for a in report.extractors]
    yield from table(("extractor", *_RULE_COLUMNS), rows)


def _failures(extractors: Sequence[Assessment]) -> Iterator[str]:
    yield "## Answers that could not be read"
    yield ""
    for a in extractors:
        count = sum(number for _, number in a.errors)
        failed = f" **It failed:** {plain(a.failure)}." if a.failure else ""
        yield f"- {plain(a.spec.name)}: {count} of {len(a.windows)} windows.{failed}"
        yield from (f"    - {number} × {plain(error)}" for error, number in a.errors[:_ERRORS])
        if len(a.errors) > _ERRORS:
            yield f"    - and {len(a.errors) - _ERRORS} other reasons"
    yield ""


def _confidence(extractors: Sequence[Assessment]) -> Iterator[str]:
    columns = (
        "extractor", "rules", "**ECE, 10 bins of equal width**", "by chance alone", "ECE, 15 bins of equal mass",
        "recall 97.5%",
    )  # fmt: skip
    rows = []
    for a in extractors:
        curve, calibration = a.curve, a.calibration
        if curve.highest_recall is None:
            reached = "no rule is required"
        elif curve.operating is None:
            reached = f"never reached; the highest recall is {curve.highest_recall:.1%}"
        else:
            point = curve.operating
            reached = f"confidence ≥ {point.threshold:.2f}: precision {point.precision:.1%}, recall {point.recall:.1%}"
        measured = (calibration.ece, calibration.ece_by_chance, calibration.ece_equal_mass)
        errors = (f"{e:.3f}" if e is not None else "–" for e in measured)
        rows.append((plain(a.spec.name), str(calibration.rules), *errors, reached))
    yield "## What the confidence is worth"
    yield ""
    yield "The calibration error over bins of equal width is the headline; beside it, what it would be on average if"
    yield "the confidences of so many rules were exactly right. Rules that match optional ones are left out."
    yield f"The last column is the operating point of the published extractor, a recall of {TARGET_RECALL:.1%}."
    yield ""
    yield from table(columns, rows)
    yield "![reliability](reliability.png)"
    yield ""
    yield "![precision and recall](precision_recall.png)"
    yield ""


def _speed(extractors: Sequence[Assessment]) -> Iterator[str]:
    rows = [
        (
            plain(a.spec.name),
            *(
                (f"{t.per_second:.2f}", f"{t.p50 * 1000:.0f} ms", f"{t.p95 * 1000:.0f} ms", str(t.sample))
                if (t := a.timing)
                else ("not measured", "–", "–", "–")
            ),
        )
        for a in extractors
    ]
    yield "## Speed"
    yield ""
    yield "Loaded and warm: windows per second with all windows handed over at once, and the time for one window alone."
    yield ""
    yield from table(("extractor", "windows/s", "p50", "p95", "windows timed alone"), rows)


def _comparisons(comparisons: Sequence[Comparison]) -> Iterator[str]:
    rows = [
        (
            f"{plain(c.first)} / {plain(c.second)}",
            str(len(c.only_first)),
            str(len(c.only_second)),
            f"{c.p_value:.2g}",
            percent(c.f1_difference, signed=True),
        )
        for c in comparisons
    ]
    if not rows:
        return
    yield "## Pairs"
    yield ""
    yield "Windows that only one of the two got perfectly right, McNemar's exact test of that, and the difference in F1"
    yield "(first minus second) with its paired interval."
    yield ""
    yield from table(("first / second", "only first", "only second", "p", "F1 difference"), rows)
    for c in comparisons:
        for name, other, ids in ((c.first, c.second, c.only_first), (c.second, c.first, c.only_second)):
            more = f" and {len(ids) - _IDS} more (report.json)" if len(ids) > _IDS else ""
            listed = ", ".join(map(plain, ids[:_IDS])) or "none"
            yield f"- {plain(name)} but not {plain(other)}: {listed}{more}"
    yield ""


def _slices(extractors: Sequence[Assessment]) -> Iterator[str]:
    yield "## Parts of the data"
    yield ""
    yield "F1, undefined where no rule is required, and then perfect windows. The precision and the recall of each part"
    yield "are in report.json."
    yield ""
    for kind, title in _SLICES.items():
        parts = [part for part in extractors[0].slices if part.kind == kind]
        own = [[part.scores for part in a.slices if part.kind == kind] for a in extractors]
        rows = [
            (
                plain(part.name),
                str(part.scores.windows),
                str(part.scores.required),
                *(f"{percent(scores[index].f1)}; {percent(scores[index].perfect)}" for scores in own),
            )
            for index, part in enumerate(parts)
        ]
        yield from table((title, "windows", "required rules", *(plain(a.spec.name) for a in extractors)), rows)
    yield "![by tag](by_tag.png)"
    yield ""


def _close_calls(report: Report) -> Iterator[str]:
    yield "## Close calls of the judge"
    yield ""
    yield "To judge the judge: the least alike of the pairs that were taken for the same wish, and the likest pairs of"
    yield "rules that were left without a partner. A high cosine among these means that the conditions are at odds."
    yield ""
    for a in report.extractors:
        for title, calls in (("only just the same", a.accepted), ("only just not the same", a.rejected)):
            yield f"### {plain(a.spec.name)}: {title}"
            yield ""
            yield from _call_table(calls)


def _call_table(calls: Sequence[CloseCall]) -> Iterator[str]:
    if not calls:
        yield "None."
        yield ""
        return
    rows = [
        (
            plain(call.window),
            f"{call.action:.3f}",
            f"{call.condition:.3f}",
            f"{plain(call.extracted.condition)}: {plain(call.extracted.action)}",
            f"{plain(call.gold.condition)}: {plain(call.gold.action)}",
        )
        for call in calls
    ]
    yield from table(("window", "actions", "conditions", "extracted", "gold"), rows)


def _reading(header: Header) -> Iterator[str]:
    yield "## How to read this"
    yield ""
    yield "- Rules are matched one to one with gold rules; one that matches an optional rule counts neither way."
    yield "- A perfect window has every required rule found and no rule wrong."
    yield "- A duplicate repeats an earlier rule of its window: the same text, or a cosine of actions of at least"
    yield f"  {DUPLICATE_THRESHOLD:g} and conditions that are not at odds."
    yield "- The eval loss is the mean cross-entropy, in nats, of the tokens of the gold answers (required and optional"
    yield "  rules), in torch; it is not measured for extractors whose weights torch cannot run."
    yield f"- In parentheses: 95% bootstrap intervals over {RESAMPLES:,} resamples of windows; none below"
    yield f"  {LEAST_WINDOWS} windows, and –: undefined. They do not cover the judge's own errors, and say nothing"
    yield "  about a rate of 0% or 100%, which every resample repeats."
    yield f"- Everything, window by window, is in report.json. Judge: {plain(header.judge)}."
    yield ""


def _number(estimate: Estimate | None, missing: str) -> str:
    if estimate is None or estimate.value is None:
        return missing
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4f}"
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"
