"""Fit what a rule's confidence means, on labelled windows kept out of training.

    python -m penchant.evaluate.fit data/labelled/calibration*.jsonl --gate-on data/labelled/dev.jsonl --output FILE

The candidates are those of the likeliest answer and of ``SAMPLES`` by chance. One is right if it matches a required
rule (``matching.py``); those that match optional ones are left out. Logistic regression over ``candidates.FEATURES``
(ridge-penalised), then isotonic regression of right on its output, as regressions on the other windows (``FOLDS``) give
it. Which of several rules of the same wish is the right one depends on which is the surest, so all of it is done twice;
the last time, the isotonic regression sees only those that could be given (``choose.distinct``).
The operating point ``balanced`` is at the highest threshold at which F1 is as good as the best one (``AS_GOOD``);
``recall`` at the lowest one at which ``PRECISION`` of the rules are right. The gate's threshold lets ``GATE_RECALL`` of
the windows with a required rule pass, of these and of another file. What the points are worth on windows not seen is
printed, cross-validated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from tqdm import tqdm

from penchant.data.records import load_windows
from penchant.errors import InputError
from penchant.evaluate.calibration import Calibration, calibrate
from penchant.evaluate.embedding import MiniLM
from penchant.evaluate.matching import SemanticJudge, Verdict, match
from penchant.evaluate.metrics import Estimate, RuleScores, score_rules
from penchant.evaluate.pages import percent
from penchant.evaluate.regression import regress
from penchant.extract.answer import read_form
from penchant.extract.candidates import FEATURES
from penchant.extract.choose import choose, distinct
from penchant.extract.confidence import Confidence, Point, Weighing, matrix
from penchant.extract.embedded import WEIGHTS
from penchant.extract.encoder import Encoder
from penchant.extract.finder import Finder, Findings
from penchant.models.catalog import EMBEDDED
from penchant.models.fetch import sha256
from penchant.models.store import ModelStore
from penchant.types import Extraction, LabelledWindow

SAMPLES = 16
"""Answers by chance, beside the likeliest one."""

AS_GOOD = 0.005
"""A difference in F1 that is none: of two such points, the one with fewer wrong rules is better."""

PRECISION = 0.377
"""Least precision at the operating point ``recall``: that of the published extractor, at its recall of 97.5%."""

FOLDS = 5
"""Parts of the windows, each of which is weighed by a regression on the others."""

GATE_RECALL = 0.995
"""Share of the windows with a required rule that the gate must let pass."""

UNSUPPORTED = 0.01
"""Share of the right rules that may rest on less than the least likeness to the user's words."""

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


def fit(found: Sequence[Findings], gold: Sequence[LabelledWindow], judge: SemanticJudge) -> Weighing:
    """Fit the regressions and choose the threshold of each operating point.

    Args:
        found: the candidates of each window, none where the gate stops it.
        gold: the windows.
        judge: says which candidates are right.

    Raises:
        InputError: there is nothing to tell right rules from wrong ones by.
    """
    rows = matrix([scored.features for findings in found for scored in findings.scored])
    owners = np.array([place for place, findings in enumerate(found) for _ in findings.scored], int)
    means, scales = rows.mean(0), rows.std(0) + 1e-9
    scaled = (rows - means) / scales
    chances = rows[:, FEATURES.index("support")]
    for _ in range(2):  # the first time, what more answers hold counts as surer
        right, counted = _judge(found, gold, judge, chances)
        if not (right & counted).any() or right[counted].all():
            raise InputError("no candidate is right, or none is wrong: give more windows, with and without rules")
        outputs = _apart(scaled, right, counted, owners % FOLDS)
        knots, levels = _isotonic(outputs[counted], right[counted])
        chances = np.interp(outputs, knots, levels)
    weights = regress(scaled[counted], right[counted], RIDGE)
    cosines = np.array([scored.support.cosine for findings in found for scored in findings.scored])
    support = float(np.quantile(cosines[right & counted], UNSUPPORTED))
    given, places = _distinct(found, chances, support)  # what users get: the confidence is of these
    right, counted = _judge(given, gold, judge, chances[places])
    knots, levels = _isotonic(outputs[places][counted], right[counted])
    chances = np.interp(outputs[places], knots, levels)
    required = sum(len(window.preferences) for window in gold)
    return Weighing(
        samples=SAMPLES,
        features=FEATURES,
        means=tuple(means),
        scales=tuple(scales),
        weights=tuple(weights[:-1]),
        bias=float(weights[-1]),
        knots=tuple(knots),
        levels=tuple(levels),
        support=support,
        least=_thresholds(chances, right, counted, required),
    )


def cross_validate(
    found: Sequence[Findings], gold: Sequence[LabelledWindow], judge: SemanticJudge
) -> dict[Point, tuple[RuleScores, Calibration]]:
    """Return what each operating point is worth on windows that fit and thresholds have not seen.

    The windows are cut into ``FOLDS`` parts; the gate's threshold alone has seen them. Arguments and errors are those
    of ``fit``.
    """
    parts = np.arange(len(gold)) % FOLDS
    answers: dict[Point, list[Extraction]] = {point: [Extraction()] * len(gold) for point in get_args(Point)}
    for part in tqdm(range(FOLDS), desc="cross-validation", unit="part"):
        seen = np.flatnonzero(parts != part).tolist()
        weighing = fit([found[place] for place in seen], [gold[place] for place in seen], judge)
        for place in np.flatnonzero(parts == part).tolist():
            for point, given in answers.items():
                given[place] = choose(found[place], weighing, point)
    return {point: _score(given, gold, judge) for point, given in answers.items()}


def _score(
    given: Sequence[Extraction], gold: Sequence[LabelledWindow], judge: SemanticJudge
) -> tuple[RuleScores, Calibration]:
    matchings = [match(extraction, window, judge) for extraction, window in zip(given, gold, strict=True)]
    confidences = [rule.confidence for extraction in given for rule in extraction.preferences]
    return score_rules(matchings), calibrate(confidences, [each for found in matchings for each in found.verdicts])


def _judge(
    found: Sequence[Findings], gold: Sequence[LabelledWindow], judge: SemanticJudge, chances: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which candidates are right, and which count; the surest are matched first."""
    verdicts: list[Verdict] = []
    for findings, window in zip(found, gold, strict=True):
        mine = chances[len(verdicts) : len(verdicts) + len(findings.scored)].tolist()
        rules = tuple(
            scored.candidate.rule.model_copy(update={"confidence": chance})
            for scored, chance in zip(findings.scored, mine, strict=True)
        )
        verdicts += match(Extraction(preferences=rules), window, judge).verdicts
    return np.array([each == "right" for each in verdicts]), np.array([each != "neutral" for each in verdicts])


def _distinct(
    found: Sequence[Findings], chances: NDArray[np.float64], support: float
) -> tuple[list[Findings], NDArray[np.int64]]:
    """Return the candidates that could be given, and their places among all."""
    given: list[Findings] = []
    places: list[int] = []
    done = 0
    for findings in found:
        mine = distinct(findings.scored, chances[done : done + len(findings.scored)], support)
        given.append(Findings(tuple(findings.scored[place] for place in mine), findings.greedy))
        places += [done + place for place in mine]
        done += len(findings.scored)
    return given, np.array(places, int)


def _apart(
    rows: NDArray[np.float64], right: NDArray[np.bool_], counted: NDArray[np.bool_], parts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the outputs of regressions that have not seen the part of the windows that they weigh."""
    outputs = np.zeros(len(rows))
    for part in range(FOLDS):
        seen = counted & (parts != part)
        weights = regress(rows[seen], right[seen], RIDGE)
        outputs[parts == part] = rows[parts == part] @ weights[:-1] + weights[-1]
    return outputs


def _isotonic(
    outputs: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return knots and levels of a rising map from outputs to the share of right rules, over bins of ``BIN`` rules."""
    order = np.argsort(outputs, kind="stable")
    parts = np.array_split(order, max(1, len(order) // BIN))
    knots = np.array([outputs[part].mean() for part in parts])
    shares = np.array([(right[part].sum() + 0.5) / (len(part) + 1) for part in parts])
    return knots, isotonic_regression(shares, weights=[len(part) for part in parts]).x


def _thresholds(
    chances: NDArray[np.float64], right: NDArray[np.bool_], counted: NDArray[np.bool_], required: int
) -> dict[Point, float]:
    thresholds = np.unique(chances)
    hits = np.array([(right & (chances >= least)).sum() for least in thresholds])
    wrong = np.array([(~right & counted & (chances >= least)).sum() for least in thresholds])
    scores = 2 * hits / (hits + wrong + required)
    balanced = int(np.flatnonzero(scores >= scores.max() - AS_GOOD)[-1])
    precise = hits[:balanced] >= PRECISION * (hits + wrong)[:balanced]
    recall = int(np.argmax(np.append(precise, True)))  # `balanced` itself if no lower one is precise enough
    return {"balanced": float(thresholds[balanced]), "recall": float(thresholds[recall])}


def main() -> None:
    """Parse the command line and fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("windows", type=Path, nargs="+", help="labelled windows kept out of training")
    parser.add_argument(
        "--gate-on", type=Path, required=True, help="labelled windows to choose the gate's threshold on"
    )
    parser.add_argument("--model", help="a prepared folder; without it, the shipped model")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    encoder = Encoder(WEIGHTS / "encoder")
    gold = [window for path in args.windows for window in load_windows(path, LabelledWindow)]
    more = load_windows(args.gate_on, LabelledWindow)
    gates, others = (encoder.probabilities([w.turns for w in windows]).tolist() for windows in (gold, more))
    gate = min(gate_threshold(gates, gold), gate_threshold(others, more))
    folder = Path(args.model) if args.model else ModelStore.default().ensure(EMBEDDED)
    finder = Finder(folder, read_form(folder), encoder)
    judge = SemanticJudge(MiniLM().embed)
    read = [place for place, score in enumerate(gates) if score >= gate]
    found = [Findings((), Extraction())] * len(gold)
    for start in tqdm(range(0, len(read), 40), desc="windows", unit="batch"):
        batch = read[start : start + 40]
        findings = finder.find([gold[place].turns for place in batch], [gates[place] for place in batch], SAMPLES)
        for place, each in zip(batch, findings, strict=True):
            found[place] = each
    finder.close()
    weighing = fit(found, gold, judge)
    fitted = Confidence(
        model=sha256(Path(args.model) / "openvino_model.bin") if args.model else EMBEDDED.difference_sha256,
        encoder=sha256(WEIGHTS / "encoder" / "encoder.bin"),
        gate=gate,
        weighing=weighing,
    )
    args.output.write_text(fitted.model_dump_json(indent=1) + "\n", encoding="utf-8")
    print(f"{args.output}: gate {gate:.4f}. On windows that fit and thresholds have not seen (95% intervals):")
    for point, (scores, calibration) in cross_validate(found, gold, judge).items():
        error, by_chance = (percent(Estimate(ece)) for ece in (calibration.ece, calibration.ece_by_chance))
        print(
            f"{point}, a confidence of {weighing.least[point]:.4f} at least: precision {percent(scores.precision)}, "
            f"recall {percent(scores.recall)}, F1 {percent(scores.f1)}; ECE {error} over {calibration.rules} rules, by "
            f"chance alone {by_chance}"
        )


if __name__ == "__main__":
    main()
