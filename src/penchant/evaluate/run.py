"""Run an extractor over a gold set and time it; whatever fails is part of the result."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from penchant import __version__
from penchant.errors import InputError, PenchantError
from penchant.evaluate.loss import AnswerModel, WindowLoss
from penchant.evaluate.specs import Loaded, Spec, load
from penchant.extract.base import Extractor
from penchant.extract.embedded import WEIGHTS
from penchant.files import whole
from penchant.types import Extraction, LabelledWindow

LATENCY_SAMPLE = 50
"""Most windows that are timed one at a time."""

_FAILURES = (PenchantError, OSError, RuntimeError)
"""What loading or running a model raises; a RuntimeError is torch's or OpenVINO's, for want of memory say."""

_KEPT = ".outcome-"

_log = logging.getLogger(__name__)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Timing:
    """How fast an extractor is once it is loaded and warm.

    ``per_second``: windows, all handed over at once; ``p50`` and ``p95``: seconds for one of ``sample`` windows alone.
    """

    per_second: float
    p50: float
    p95: float
    sample: int


@dataclass(frozen=True)
class Outcome:
    """What an extractor did on a gold set: an extraction for each window, its speed, and its loss.

    ``timing`` is None if nothing could be extracted. ``losses`` is None where torch has no weights to run; a window
    that cannot be read has none.
    """

    spec: Spec
    extractions: tuple[Extraction, ...]
    timing: Timing | None = None
    losses: tuple[WindowLoss | None, ...] | None = None
    failure: str | None = None


_OUTCOME = TypeAdapter(Outcome)


def run_all(specs: Sequence[Spec], gold: Sequence[LabelledWindow], data: str, folder: Path) -> tuple[Outcome, ...]:
    """Run extractors one after the other, and keep what each did in ``folder`` until ``forget`` is called.

    What an earlier run, killed before its report, has kept is taken over, if it got anything from that extractor and
    ``data``, the sha256 of the gold set, is the same.
    """
    return tuple(_run_once(spec, gold, folder / f"{_KEPT}{_key(spec, data)}") for spec in specs)


def forget(folder: Path) -> None:
    """Remove what ``run_all`` has kept."""
    for path in folder.glob(f"{_KEPT}*"):
        path.unlink()


def run(spec: Spec, gold: Sequence[LabelledWindow]) -> Outcome:
    """Run an extractor; if it fails, the windows it has not done are not valid, and ``failure`` says why."""
    extractions: list[Extraction] = []
    timing = losses = failure = None
    try:
        with load(spec) as loaded:
            timing = _extract(loaded.extractor, gold, extractions, spec.name)
            losses = _measure_loss(loaded, gold, spec.name)
    except _FAILURES as error:
        failure = " ".join(str(error).split())[:300] or type(error).__name__
        _log.warning("%s: %s", spec.name, failure)
    undone = Extraction(valid=False, error=failure)
    extractions += [undone] * (len(gold) - len(extractions))
    return Outcome(spec, tuple(extractions), timing, losses, failure)


def _run_once(spec: Spec, gold: Sequence[LabelledWindow], path: Path) -> Outcome:
    if kept := _kept(path):
        _log.info("%s: taken from an unfinished run", spec.name)
        return kept
    outcome = run(spec, gold)
    if outcome.timing and outcome.failure is None:
        with whole(path) as part:
            part.write_bytes(_OUTCOME.dump_json(outcome))
    return outcome


def _kept(path: Path) -> Outcome | None:
    try:
        return _OUTCOME.validate_json(path.read_bytes()) if path.is_file() else None
    except ValidationError:  # JSON has no number for a loss that is none
        return None


def _key(spec: Spec, data: str) -> str:
    model = Path(spec.model or WEIGHTS)
    files = [model] if model.is_file() else sorted(path for path in model.rglob("*") if path.is_file())
    state = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(f"{__version__} {spec!r} {data} {state}".encode()).hexdigest()[:16]


def _extract(extractor: Extractor, gold: Sequence[LabelledWindow], done: list[Extraction], name: str) -> Timing | None:
    """Extract from all windows into ``done``, and time it."""
    _extract_alone(extractor, gold[0])  # to warm up
    started = time.perf_counter()
    for extraction in _bar(extractor.extract_many(window.turns for window in gold), name, len(gold)):
        done.append(extraction)
    seconds = time.perf_counter() - started
    if not any(extraction.valid for extraction in done):
        return None
    sample = gold[:: math.ceil(len(gold) / LATENCY_SAMPLE)]
    latencies = [_extract_alone(extractor, window) for window in _bar(sample, f"{name}, one by one", len(sample))]
    p50, p95 = np.percentile(latencies, (50, 95)).tolist()
    return Timing(len(gold) / seconds, p50, p95, len(sample))


def _extract_alone(extractor: Extractor, window: LabelledWindow) -> float:
    """Extract from one window, begun otherwise so that nothing of it is remembered, and return the seconds it took."""
    first, *others = window.turns
    turns = [first.model_copy(update={"content": f"Hi. {first.content}"}), *others]
    started = time.perf_counter()
    list(extractor.extract_many([turns]))
    return time.perf_counter() - started


def _measure_loss(loaded: Loaded, gold: Sequence[LabelledWindow], name: str) -> tuple[WindowLoss | None, ...] | None:
    if loaded.load_answers is None:
        return None
    model = loaded.load_answers()
    return tuple(_loss(model, window) for window in _bar(gold, f"{name}, loss", len(gold)))


def _loss(model: AnswerModel, window: LabelledWindow) -> WindowLoss | None:
    try:
        return model.loss(window)
    except InputError:  # its text is nothing but control characters
        return None


def _bar(items: Iterable[Item], name: str, total: int) -> Iterable[Item]:
    return tqdm(items, desc=name, total=total, unit="window", disable=None)
