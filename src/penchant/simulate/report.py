"""What a simulation showed, as plain data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

import penchant
from penchant.evaluate.metrics import Estimate
from penchant.simulate.arms import BASELINES
from penchant.simulate.collab import Life, Played
from penchant.simulate.hear import HISTORY, SUMMARY
from penchant.simulate.measure import METRICS, Metric, curve, difference, mean
from penchant.simulate.run import Plan, Results
from penchant.simulate.sensitivity import Change, changes
from penchant.simulate.style import StyleResult

SCHEMA = "penchant.simulation-report/1"
"""Names what ``report.json`` holds; the number rises when a field changes its meaning or goes."""

OURS, RIVAL, NO_VECTORS = "vars", "rag", "paper, none"

SLICES: dict[str, Callable[[Played], bool]] = {
    "all": lambda played: True,
    "profile users": lambda played: played.kind == "profile",
    "profile users whom the reranker was not trained on": lambda played: (
        played.kind == "profile" and not played.trained
    ),
    "collab users": lambda played: played.kind == "collab",
    "tasks that are new": lambda played: played.before == 0,
    "tasks brought before": lambda played: played.before > 0,
}
"""The sessions of each part of the tables."""

CURVES: tuple[Metric, ...] = ("enforcements", "timeout", "tokens", "recall")


@dataclass(frozen=True)
class Row:
    """An arm in a slice."""

    slice: str
    arm: str
    sessions: int
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class Difference:
    """The first arm minus the second, on the same users, tasks and seeds."""

    slice: str
    first: str
    second: str
    metric: Metric
    estimate: Estimate


@dataclass(frozen=True)
class Report:
    """All that was measured; ``settings`` are those that the numbers depend on, ``took`` says in what time, on what."""

    schema: str
    date: str
    command: str
    took: str
    version: str
    settings: Mapping[str, float | int | bool]
    models: Mapping[str, str]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    curves: Mapping[str, Mapping[str, Sequence[Estimate]]]
    norms: Mapping[str, float]
    sensitivity: tuple[Change, ...]
    style: StyleResult | None
    notes: tuple[str, ...]


def build_report(plan: Plan, results: Results, command: str, took: str = "") -> Report:
    """Measure what came of a simulation."""
    played = {name: sessions_of(lives) for name, lives in results.arms.items()}
    rows = tuple(_rows(played))
    differences = tuple(_differences(played))
    return Report(
        schema=SCHEMA,
        date=date.today().isoformat(),
        command=command,
        took=took,
        version=penchant.__version__,
        settings=_settings(plan),
        models=results.models,
        rows=rows,
        differences=differences,
        curves={metric: {name: curve(sessions, metric) for name, sessions in played.items()} for metric in CURVES},
        norms={name: float(np.mean(norms)) for name, norms in _norms(results.arms).items() if norms},
        sensitivity=tuple(changes(_norms(results.variants))),
        style=results.style,
        notes=tuple(_notes(rows, differences)),
    )


def sessions_of(lives: Sequence[Life]) -> list[Played]:
    """Return the sessions of lives."""
    return [played for life in lives for played in life.sessions]


def _norms(lives: Mapping[str, Sequence[Life]]) -> dict[str, list[float]]:
    return {name: [life.norm for life in some if life.norm is not None] for name, some in lives.items()}


def _settings(plan: Plan) -> dict[str, float | int | bool]:
    conduct = plan.conduct
    return {
        "users": plan.users,
        "sessions": plan.sessions,
        "seeds": plan.seeds,
        "seed": plan.seed,
        "turns": conduct.turns,
        "aside": conduct.aside,
        "keeps": conduct.keeps,
        "extractor recall": conduct.noise.recall,
        "extractor false": conduct.noise.false,
        "floor": round(math.exp(conduct.floor), 6),
        "lines of earlier conversations": HISTORY,
        "lines of a summary": SUMMARY,
    }


def _rows(played: Mapping[str, Sequence[Played]]) -> Iterator[Row]:
    for part, belongs in SLICES.items():
        for name, sessions in played.items():
            chosen = [session for session in sessions if belongs(session)]
            if chosen:
                yield Row(part, name, len(chosen), {metric: mean(chosen, metric) for metric in METRICS})


def _differences(played: Mapping[str, Sequence[Played]]) -> Iterator[Difference]:
    """Yield ours minus every other arm, ours minus its rival in every slice, both without a floor, and the ablation."""
    pairs = [(OURS, other, part) for other in played if other != OURS for part in ("all",)]
    pairs += [(OURS, RIVAL, part) for part in SLICES if part != "all"]
    pairs += [(f"{OURS}, no floor", f"{RIVAL}, no floor", part) for part in SLICES]
    pairs += [(name, NO_VECTORS, "all") for name in played if name.startswith("paper") and name != NO_VECTORS]
    for first, second, part in pairs:
        if first not in played or second not in played:
            continue
        one, two = ([session for session in played[name] if SLICES[part](session)] for name in (first, second))
        if one and two:
            for metric in METRICS:
                yield Difference(part, first, second, metric, difference(one, two, metric))


def _notes(rows: Sequence[Row], differences: Sequence[Difference]) -> Iterator[str]:
    """Yield in plain words what the differences in enforcement turns say, flattering or not."""
    means = {row.arm: row.metrics["enforcements"].value or 0.0 for row in rows if row.slice == "all"}
    for found in differences:
        if found.metric != "enforcements" or found.first != OURS or found.estimate.value is None:
            continue
        ours, theirs = means[found.first], means[found.second]
        where = "" if found.slice == "all" else f" on {found.slice}"
        if found.estimate.low is None:
            said = f"{found.first} and {found.second}: too few users to tell"
        elif not found.estimate.is_clear:
            said = f"{found.first} and {found.second} do not differ clearly"
        elif found.estimate.value > 0:
            simple = ", the simpler one," if found.second in BASELINES else ""
            said, ours, theirs = f"{found.second}{simple} is better than {found.first}", theirs, ours
        else:
            said = f"{found.first} is better than {found.second}"
        numbers = f"{ours:.2f} against {theirs:.2f}" if found.slice == "all" else f"{found.estimate.value:+.2f}"
        yield f"{said}{where} ({numbers} enforcement turns a session)."
