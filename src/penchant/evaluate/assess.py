"""Everything that is known about how good one extractor was on a gold set: pure functions of what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from penchant.evaluate.calibration import Calibration, PrecisionRecall, calibrate, trace
from penchant.evaluate.matching import Matching, SemanticJudge, compare_exactly, find_duplicates, match
from penchant.evaluate.metrics import Estimate, RuleScores, score_rules, share
from penchant.evaluate.run import Outcome, Timing
from penchant.evaluate.slices import SliceKind, slice_windows
from penchant.evaluate.specs import Spec
from penchant.types import Extraction, LabelledWindow, Preference

CLOSE_CALLS = 20
"""How many pairs on each side of the threshold are listed."""


@dataclass(frozen=True)
class JudgedWindow:
    """An extraction with its matchings; ``duplicates`` says of each rule whether it repeats an earlier one."""

    id: str
    extraction: Extraction
    semantic: Matching
    exact: Matching
    duplicates: tuple[bool, ...]


@dataclass(frozen=True)
class CloseCall:
    """An extracted and a gold rule of a window, and the cosines of their actions and of their conditions."""

    window: str
    extracted: Preference
    gold: Preference
    action: float
    condition: float


@dataclass(frozen=True)
class SliceScores:
    """The scores on a part of the gold set, by the semantic judge."""

    kind: SliceKind
    name: str
    scores: RuleScores


@dataclass(frozen=True)
class Assessment:
    """How good an extractor was.

    ``valid`` is the share of windows whose answer could be read, ``noise`` that of the windows without any gold rule
    (required or optional) in which a rule was extracted, ``duplicates`` that of the extracted rules that repeat
    another of their window. ``loss`` is in nats per answer token; None: not measured. ``accepted`` are the least
    alike of the pairs that count as the same, ``rejected`` the likest of those rules that found no partner.
    """

    spec: Spec
    failure: str | None
    errors: tuple[tuple[str, int], ...]
    valid: Estimate
    noise: Estimate
    duplicates: Estimate
    semantic: RuleScores
    exact: RuleScores
    loss: Estimate | None
    timing: Timing | None
    calibration: Calibration
    curve: PrecisionRecall
    slices: tuple[SliceScores, ...]
    accepted: tuple[CloseCall, ...]
    rejected: tuple[CloseCall, ...]
    windows: tuple[JudgedWindow, ...]


def assess(gold: Sequence[LabelledWindow], outcome: Outcome, judge: SemanticJudge) -> Assessment:
    """Judge what an extractor did."""
    results = outcome.extractions
    judge.embed(_texts(gold, results))  # all at once: the judge remembers them
    windows = tuple(_judge(window, result, judge) for window, result in zip(gold, results, strict=True))
    semantic = [window.semantic for window in windows]
    rules = [rule for result in results for rule in result.preferences]
    confidences = [rule.confidence for rule in rules]
    verdicts = [verdict for matching in semantic for verdict in matching.verdicts]
    scores = score_rules(semantic)
    accepted, rejected = _close_calls(gold, windows, judge)
    negative = [not window.is_positive for window in gold]
    noisy = [empty and bool(result.preferences) for empty, result in zip(negative, results, strict=True)]
    return Assessment(
        spec=outcome.spec,
        failure=outcome.failure,
        errors=tuple(Counter(result.error or "" for result in results if not result.valid).most_common()),
        valid=share([result.valid for result in results], [True] * len(results)),
        noise=share(noisy, negative),
        duplicates=share([sum(w.duplicates) for w in windows], [len(w.duplicates) for w in windows]),
        semantic=scores,
        exact=score_rules([window.exact for window in windows]),
        loss=_loss(outcome),
        timing=outcome.timing,
        calibration=calibrate(confidences, verdicts),
        curve=trace(confidences, verdicts, scores.required),
        slices=tuple(
            SliceScores(part.kind, part.name, score_rules([semantic[index] for index in part.windows]))
            for part in slice_windows(gold)
        ),
        accepted=accepted,
        rejected=rejected,
        windows=windows,
    )


def _judge(window: LabelledWindow, result: Extraction, judge: SemanticJudge) -> JudgedWindow:
    return JudgedWindow(
        window.id,
        result,
        match(result, window, judge),
        match(result, window, compare_exactly),
        find_duplicates(result.preferences, judge),
    )


def _texts(gold: Iterable[LabelledWindow], results: Iterable[Extraction]) -> list[str]:
    rules = chain.from_iterable([*(window.rules for window in gold), *(result.preferences for result in results)])
    return [text for rule in rules for text in (rule.action, rule.condition)]


def _loss(outcome: Outcome) -> Estimate | None:
    measured = [loss for loss in outcome.losses or () if loss is not None]
    return share([loss.total for loss in measured], [loss.tokens for loss in measured]) if measured else None


def _close_calls(
    gold: Sequence[LabelledWindow], windows: Sequence[JudgedWindow], judge: SemanticJudge
) -> tuple[tuple[CloseCall, ...], tuple[CloseCall, ...]]:
    """Return the pairs that were only just taken for the same wish, and those that only just were not."""
    accepted: list[CloseCall] = []
    rejected: list[CloseCall] = []
    for wanted, window in zip(gold, windows, strict=True):
        rules, partners = window.extraction.preferences, window.semantic.partners
        likeness = judge(rules, wanted.rules)
        free = [column for column in range(len(wanted.rules)) if column not in partners]
        for row, partner in enumerate(partners):
            for column in free if partner is None else [partner]:
                cosines = float(likeness.actions[row, column]), float(likeness.conditions[row, column])
                call = CloseCall(window.id, rules[row], wanted.rules[column], *cosines)
                (rejected if partner is None else accepted).append(call)
    accepted.sort(key=lambda call: call.action)
    rejected.sort(key=lambda call: -call.action)
    return tuple(accepted[:CLOSE_CALLS]), tuple(_likest(rejected)[:CLOSE_CALLS])


def _likest(calls: Iterable[CloseCall]) -> list[CloseCall]:
    """Keep the first pair of each gold rule, so that an answer full of near copies does not fill the list."""
    first: dict[tuple[str, Preference], CloseCall] = {}
    for call in calls:
        first.setdefault((call.window, call.gold), call)
    return list(first.values())
