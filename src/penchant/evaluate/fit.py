"""Fit what a rule's confidence means, on labelled windows kept out of training.

    python -m penchant.evaluate.fit data/labelled/calibration.jsonl --gate-on data/labelled/dev.jsonl --output FILE

A rule is right if it matches a required one (``matching.py``); rules that match optional ones are left out. Logistic
regression over ``candidates.FEATURES`` (ridge-penalised), then isotonic regression of right on its output. The
operating point ``balanced`` weighs the rules of the likeliest answer, at the threshold of the best F1 on the same
windows; ``recall`` those of ``SAMPLES`` answers more, at the highest threshold that still finds ``RECALL`` of the
required rules, or else all that were found. The gate's threshold lets ``GATE_RECALL`` of the windows with a required
rule pass, of these and of another file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize
from tqdm import tqdm

from penchant.data.records import load_windows
from penchant.errors import InputError
from penchant.evaluate.embedding import MiniLM
from penchant.evaluate.matching import SemanticJudge, Verdict, match
from penchant.extract.answer import read_form
from penchant.extract.candidates import FEATURES
from penchant.extract.confidence import Confidence, Point, Weighing
from penchant.extract.embedded import WEIGHTS
from penchant.extract.encoder import Encoder
from penchant.extract.finder import Finder, Findings
from penchant.models.catalog import EMBEDDED
from penchant.models.store import ModelStore
from penchant.types import Extraction, LabelledWindow

SAMPLES: dict[Point, int] = {"balanced": 0, "recall": 8}
"""Answers by chance, beside the likeliest one."""

RECALL = 0.9
"""The recall that the operating point ``recall`` is to reach."""

GATE_RECALL = 0.995
"""Share of the windows with a required rule that the gate must let pass."""

UNSUPPORTED = 0.01
"""Share of the right rules that may rest on less than the least likeness to the user's words."""

GATE_MARGIN = 0.5
"""Of that threshold: the least score of a few hundred windows is not the least there is."""

RIDGE = 1.0
BIN = 30
"""Rules in a bin of the isotonic regression."""


def gate_threshold(scores: Sequence[float], windows: Sequence[LabelledWindow]) -> float:
    """Return the highest threshold that lets ``GATE_RECALL`` of the windows with a required rule pass.

    Raises:
        InputError: none of the windows has one.
    """
    if not any(window.preferences for window in windows):
        raise InputError("no window has a required rule: give some that have one")
    wanted = np.sort([score for score, window in zip(scores, windows, strict=True) if window.preferences])
    return float(wanted[int((1 - GATE_RECALL) * len(wanted))])


def fit(
    point: Point, found: Sequence[Findings], gold: Sequence[LabelledWindow], judge: SemanticJudge, gate: float
) -> Weighing:
    """Fit the regressions of an operating point and choose its threshold.

    Args:
        point: which one.
        found: the candidates of each window, from ``SAMPLES[point]`` sampled answers.
        gold: the windows.
        judge: says which candidates are right.
        gate: the encoder's threshold; windows below it count as read and empty.

    Raises:
        InputError: there is nothing to tell right rules from wrong ones by.
    """
    passed = [findings if findings.gate >= gate else Findings((), findings.greedy, findings.gate) for findings in found]
    rows, right, counted = _judge(passed, gold, judge)
    if not (right & counted).any() or right[counted].all():
        raise InputError("no candidate is right, or none is wrong: give more windows, with and without rules")
    means, scales = rows.mean(0), rows.std(0) + 1e-9
    scaled = (rows - means) / scales
    weights = _regress(scaled[counted], right[counted])
    outputs = scaled @ weights[:-1] + weights[-1]
    knots, levels = _isotonic(outputs[counted], right[counted])
    chances = np.interp(outputs, knots, levels)
    scores = np.array([scored.support.score for findings in passed for scored in findings.scored])
    support = float(np.quantile(scores[right & counted], UNSUPPORTED))
    kept = scores >= support
    required = sum(len(window.preferences) for window in gold)
    return Weighing(
        samples=SAMPLES[point],
        features=FEATURES,
        means=tuple(means),
        scales=tuple(scales),
        weights=tuple(weights[:-1]),
        bias=float(weights[-1]),
        knots=tuple(knots),
        levels=tuple(levels),
        support=support,
        least=_threshold(point, chances[kept], right[kept], counted[kept], required),
    )


def judge_candidates(findings: Findings, window: LabelledWindow, judge: SemanticJudge) -> tuple[Verdict, ...]:
    """Return what each candidate of a window is; what more answers hold is matched first."""
    rules = tuple(
        scored.candidate.rule.model_copy(update={"confidence": min(1.0, scored.candidate.support)})
        for scored in findings.scored
    )
    return match(Extraction(preferences=rules), window, judge).verdicts


def _judge(
    found: Sequence[Findings], gold: Sequence[LabelledWindow], judge: SemanticJudge
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the features of all candidates, which are right, and which count."""
    rows, right, counted = [], [], []
    for findings, window in zip(found, gold, strict=True):
        verdicts = judge_candidates(findings, window, judge)
        rows += [scored.features for scored in findings.scored]
        right += [verdict == "right" for verdict in verdicts]
        counted += [verdict != "neutral" for verdict in verdicts]
    return np.array(rows, np.float64), np.array(right), np.array(counted)


def _regress(rows: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the weights of a ridge-penalised logistic regression, the bias last."""
    signs = np.where(right, 1.0, -1.0)
    extended = np.column_stack([rows, np.ones(len(rows))])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = signs * (extended @ weights)
        penalty = np.append(weights[:-1], 0.0)
        gradient = -(extended * (signs / (1 + np.exp(margins)))[:, None]).sum(0) + RIDGE * penalty
        return float(np.logaddexp(0, -margins).sum() + RIDGE * penalty @ penalty / 2), gradient

    weights: NDArray[np.float64] = minimize(loss, np.zeros(extended.shape[1]), jac=True).x
    return weights


def _isotonic(
    outputs: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return knots and levels of a rising map from outputs to the share of right rules, over bins of ``BIN`` rules."""
    order = np.argsort(outputs, kind="stable")
    parts = np.array_split(order, max(1, len(order) // BIN))
    knots = np.array([outputs[part].mean() for part in parts])
    shares = np.array([(right[part].sum() + 0.5) / (len(part) + 1) for part in parts])
    return knots, isotonic_regression(shares, weights=[len(part) for part in parts]).x


def _threshold(
    point: Point, chances: NDArray[np.float64], right: NDArray[np.bool_], counted: NDArray[np.bool_], required: int
) -> float:
    thresholds = np.unique(chances)
    hits = np.array([(right & (chances >= least)).sum() for least in thresholds])
    if point == "recall":
        enough = np.flatnonzero(hits >= RECALL * required)
        return float(thresholds[enough[-1]]) if len(enough) else 0.0
    wrong = np.array([(~right & counted & (chances >= least)).sum() for least in thresholds])
    return float(thresholds[np.argmax(2 * hits / (hits + wrong + required))])


def main() -> None:
    """Parse the command line and fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("windows", type=Path, help="labelled windows kept out of training")
    parser.add_argument(
        "--gate-on", type=Path, required=True, help="labelled windows to choose the gate's threshold on"
    )
    parser.add_argument("--model", help="a prepared folder; without it, the shipped model")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    encoder = Encoder(WEIGHTS / "encoder")
    gold, more = load_windows(args.windows, LabelledWindow), load_windows(args.gate_on, LabelledWindow)
    scores, others = (encoder.probabilities([w.turns for w in windows]).tolist() for windows in (gold, more))
    gate = GATE_MARGIN * min(gate_threshold(scores, gold), gate_threshold(others, more))
    folder = Path(args.model) if args.model else ModelStore.default().ensure(EMBEDDED)
    finder = Finder(folder, read_form(folder), encoder)
    judge = SemanticJudge(MiniLM().embed)
    points: dict[Point, Weighing] = {}
    for point, samples in SAMPLES.items():
        found: list[Findings] = []
        for start in tqdm(range(0, len(gold), 40), desc=point, unit="batch"):
            batch = [window.turns for window in gold[start : start + 40]]
            found += finder.find(batch, scores[start : start + 40], samples)
        points[point] = fit(point, found, gold, judge, gate)
    finder.close()
    fitted = Confidence(gate=gate, points=points)
    args.output.write_text(fitted.model_dump_json(indent=1) + "\n", encoding="utf-8")
    print(f"{args.output}: gate {gate:.4f}, " + ", ".join(f"{name} {points[name].least:.4f}" for name in points))


if __name__ == "__main__":
    main()
