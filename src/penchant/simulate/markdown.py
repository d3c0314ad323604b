"""A simulation's report -> Markdown for people."""

from __future__ import annotations

from collections.abc import Iterator

from penchant.evaluate.metrics import Estimate
from penchant.evaluate.pages import decimal, table
from penchant.simulate.measure import LEAST_USERS, METRICS, RESAMPLES, WIDTH
from penchant.simulate.report import NO_VECTORS, OURS, RIVAL, SLICES, Report
from penchant.simulate.style import StyleRow
from penchant.simulate.write import STYLES, VIOLATIONS

COLUMNS = (
    "enforcement turns",
    "user turns",
    "timeout",
    "user tokens (estimate)",
    "Recall@J",
    "notes that apply",
    "notes",
)

PICTURES = {
    "enforcements.png": "enforcement turns against the session's number",
    "timeout.png": "sessions that the user gave up, likewise",
    "tokens.png": "user tokens likewise",
    "recall.png": "Recall@J likewise",
}

RARE = 0.01
"""Share of sessions below which timeouts tell nothing."""

PUBLISHED_NORM = 0.0033
"""The paper's mean |z_L| after 60 sessions."""

PUBLISHED_RECALL = {"short": 0.667, "bullets": 0.833, "language": 1.0}
"""The paper's Recall@k of the style personas in phase 2."""

PUBLISHED_SPEARMAN = 0.27
"""The paper's correlation of the style personas' vectors with the overlap of their wishes."""


def render(report: Report) -> str:
    """Render a report; the plots are expected beside it."""
    parts = (
        _header(report),
        headline(report),
        _differences(report),
        _slices(report),
        _curves(),
        _vectors(report),
        _sensitivity(report),
        _style(report),
        _reading(report),
    )
    return "\n".join(line for part in parts for line in part)


def headline(report: Report) -> Iterator[str]:
    """Yield the main comparison, and the table of all arms."""
    yield "## Collaboration over many sessions"
    yield ""
    for found in report.differences:
        if (found.slice, found.first, found.second, found.metric) == ("all", OURS, RIVAL, "enforcements"):
            gain = decimal(found.estimate, signed=True)
            yield f"**{OURS} minus {RIVAL}, enforcement turns a session: {gain}** (less is better)"
            yield ""
    yield from _arm_table(report, "all")


def _header(report: Report) -> Iterator[str]:
    yield "# What each mode is worth: a simulation"
    yield ""
    yield f"- date: {report.date}, penchant {report.version}"
    yield f"- command: `{report.command.replace('`', '')}`"
    if report.took:
        yield f"- took: {report.took}"
    yield f"- settings: {', '.join(f'{name} {value}' for name, value in report.settings.items())}"
    yield f"- models: {', '.join(f'{use} {name}' for use, name in report.models.items())}"
    yield ""


def _differences(report: Report) -> Iterator[str]:
    """Yield the paired differences and what they say in words."""
    yield "### Paired differences"
    yield ""
    yield "On the same users, tasks and seeds; first minus second, in brackets the 95% interval over users."
    yield ""
    pairs = list(dict.fromkeys((found.first, found.second, found.slice) for found in report.differences))
    values = {(d.first, d.second, d.slice, d.metric): d.estimate for d in report.differences}
    rows = [
        (
            f"{first} − {second}",
            part,
            *(decimal(values[first, second, part, metric], signed=True) for metric in METRICS),
        )
        for first, second, part in pairs
    ]
    yield from table(("arms", "sessions", *COLUMNS), rows)
    yield "In words:"
    yield ""
    yield from (f"- {text}" for text in report.notes)
    yield ""


def _slices(report: Report) -> Iterator[str]:
    for part in SLICES:
        if part != "all":
            yield f"### {part[:1].upper()}{part[1:]}"
            yield ""
            yield from _arm_table(report, part)


def _curves() -> Iterator[str]:
    yield "### Learning curves"
    yield ""
    yield f"Running means over {WIDTH} sessions; bands (vars, rag): 95% intervals over users."
    yield "The ablation of the paper's vectors is in report.json only."
    yield ""
    for name, title in PICTURES.items():
        yield f"![{title}]({name})"
    yield ""


def _vectors(report: Report) -> Iterator[str]:
    yield "## The paper's vectors"
    yield ""
    yield f"Mean |z_L| after the last session, with the arm's own reward (the paper reports {PUBLISHED_NORM}):"
    yield ""
    yield from table(("arm", "mean z_L norm"), [(name, f"{norm:.4f}") for name, norm in report.norms.items()])
    yield f'"{NO_VECTORS}" has step sizes of zero: it must equal {RIVAL}.'
    yield ""


def _sensitivity(report: Report) -> Iterator[str]:
    yield "## Sensitivity of |z_L|"
    yield ""
    yield "The paper's learner with the keyword reward and the first seed, relative to the paper's own settings."
    yield ""
    rows = [
        (change.name, f"{change.norm:.4f}", _percent(change.change), _percent(change.published))
        for change in report.sensitivity
    ]
    yield from table(("variant", "mean z_L norm", "change", "the paper's change"), rows)


def _style(report: Report) -> Iterator[str]:
    style = report.style
    if style is None:
        return
    yield "## Style personas"
    yield ""
    yield (
        f"{style.personas} personas, {style.answers} answers each. Phase 2 only asks, phase 3 mixes in complaints. The"
        " extractor finds every wish here. The paper's phase 2, personalised against vanilla: satisfaction 0.950"
        " against 0.725, too long 0.167 against 0.417, no bullets 0.000 against 0.500; recall "
        + ", ".join(f"{name} {value:.3f}" for name, value in PUBLISHED_RECALL.items())
        + "."
    )
    yield ""
    titles = ("arm", "phase", "satisfaction", *VIOLATIONS, *(f"recall {name}" for name in STYLES))
    yield from table(titles, [_style_cells(row) for row in style.rows])
    if style.spearman is not None:
        yield (
            f"Spearman's correlation of the paper's learned vectors (cos of z_L) with the overlap of wishes:"
            f" {style.spearman:.3f} (p = {style.p_value:.3f}, as if pairs were independent; the paper reports"
            f" {PUBLISHED_SPEARMAN})."
        )
        yield ""
    found = {row.arm: row for row in style.rows if row.phase == 2}
    if {"vanilla", OURS} <= found.keys():
        yield "In words, of phase 2:"
        yield ""
        yield from (f"- {text}" for text in style_notes(found["vanilla"], found[OURS]))
        yield ""


def style_notes(vanilla: StyleRow, ours: StyleRow) -> Iterator[str]:
    """Say which of the paper's findings on style personas show here, too."""
    better = [name for name in VIOLATIONS if ours.violations[name] < vanilla.violations[name]]
    satisfied = "more" if ours.satisfaction > vanilla.satisfaction else "not more"
    yield (
        f"as in the paper, or not: {OURS} satisfies {satisfied} than vanilla ({ours.satisfaction:.3f} against"
        f" {vanilla.satisfaction:.3f}), and violates less in {len(better)} of {len(VIOLATIONS)} ways."
    )
    for name in STYLES:
        value = ours.recall[name]
        if value is not None and value < PUBLISHED_RECALL[name]:
            yield f"recall of {name} is lower than the paper's: {value:.3f} against {PUBLISHED_RECALL[name]:.3f}."


def _style_cells(row: StyleRow) -> tuple[str, ...]:
    return (
        row.arm,
        str(row.phase),
        f"{row.satisfaction:.3f}",
        *(f"{row.violations[name]:.3f}" for name in VIOLATIONS),
        *("–" if (value := row.recall[name]) is None else f"{value:.3f}" for name in STYLES),
    )


def _reading(report: Report) -> Iterator[str]:
    recall = report.settings["extractor recall"]
    yield "## How to read this"
    yield ""
    yield (
        "- The chat model is a rule, not a language model: it follows every note in its prompt, however many there are."
        " So all-memory cannot lose by overload here, as it does with real chat models; what it costs shows as notes."
    )
    yield (
        f"- The extractor is an oracle that misses {1 - recall:.0%} of the wishes and invents some; reflection's"
        " summary hears as well as it does. Contextual reads the users' own words without a mistake, as far as"
        f" they are within the last {report.settings['lines of earlier conversations']:g} lines."
    )
    yield (
        "- The shipped reranker was trained on profiles; of those, the ones kept apart from that come first here, and a"
        " slice leaves out the others. On these same profiles its three weights and the floor were chosen, which"
        " flatters rag and vars alike. It was not trained on collab users."
    )
    yield (
        "- A note that does not apply costs nothing here, so that a floor can only lose; the arms without one part what"
        " ranking brings from what the bonus lifts over the floor."
    )
    yield "- Users bring the same tasks again, in slightly other words: the slices part new tasks from old ones."
    yield "- Collab users have at most three rules, so that hardly anything has to be left out of a prompt."
    most = max((row.metrics["timeout"].value or 0.0 for row in report.rows if row.slice == "all"), default=0.0)
    if most < RARE:
        yield (
            f"- At most {most:.1%} of an arm's sessions are given up: a rule that is enforced is followed at once, so"
            " that timeouts tell hardly anything here."
        )
    yield (
        f"- Intervals come from {RESAMPLES:,} resamples of users ({LEAST_USERS} users at least); Recall@J counts the"
        " rules that apply and that a conditional card says."
    )


def _arm_table(report: Report, part: str) -> Iterator[str]:
    rows = [(row.arm, *(_cell(row.metrics[metric]) for metric in METRICS)) for row in report.rows if row.slice == part]
    yield from table(("arm", *COLUMNS), rows)


def _cell(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.0%}"
