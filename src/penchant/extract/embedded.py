"""The default extractor: a small encoder as the gate, then fine-tuned SmolLM2-135M, on the CPU, without torch.

The gate reads the user's turns and lets most windows without a preference go at once. For the others the language
model writes one likeliest answer and several by chance; what they agree on becomes candidates, each with a calibrated
probability of being right and the words it rests on. The operating point says how probable a rule must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penchant.errors import ModelError, ParseError
from penchant.extract.answer import SHIPPED, read_form
from penchant.extract.base import Extractor
from penchant.extract.candidates import Candidate, Line, merge
from penchant.extract.confidence import FILE, Confidence, Point, check_point, load_confidence, matrix
from penchant.extract.encoder import Encoder
from penchant.extract.evidence import Support, find_support, rule_text
from penchant.extract.generator import BATCH_SIZE, Generator, Written
from penchant.models.catalog import EMBEDDED
from penchant.models.store import ModelStore
from penchant.types import Extraction, Turn

WEIGHTS = Path(str(files("penchant.models") / "weights"))
"""What is shipped: the encoder and the calibration of the shipped model."""


@dataclass(frozen=True)
class Scored:
    """A candidate with its evidence and its features, in the order of ``candidates.FEATURES``."""

    candidate: Candidate
    support: Support
    features: tuple[float, ...]


@dataclass(frozen=True)
class Findings:
    """All candidates of a window, and the greedy answer as it reads; ``gate`` is the encoder's probability."""

    scored: tuple[Scored, ...]
    greedy: Extraction
    gate: float


class EmbeddedExtractor(Extractor):
    """SmolLM2-135M-Instruct, fine-tuned for this task; fetched and prepared on first use.

    Args:
        model: a folder that ``penchant export`` or ``penchant.models.prepare`` wrote; None: the shipped model. A
            folder without ``confidence.json`` gives the rules of the greedy answer, with the confidence it wrote.
        point: ``balanced`` or ``recall``.
        gate: let the encoder decide which windows are read at all.

    Raises:
        InputError: no such operating point.
        ModelError: the model cannot be fetched, prepared or loaded.
    """

    batch_size = BATCH_SIZE

    def __init__(self, model: str | None = None, *, point: Point = "balanced", gate: bool = True) -> None:
        self._point, self._gate = check_point(point), gate
        folder = Path(model) if model else ModelStore.default().ensure(EMBEDDED)
        self.form = read_form(folder, SHIPPED) if model else SHIPPED
        calibration = folder / FILE if model else WEIGHTS / FILE
        self._confidence = load_confidence(calibration) if calibration.is_file() else None
        try:
            self._generator = Generator(folder, self.form.prompt, self.form.answer_form)
        except ModelError as error:
            hint = (
                f"{folder} must be a folder that Penchant prepared"
                if model
                else "run `penchant models remove`, then `pull`"
            )
            raise ModelError(f"cannot load the embedded model ({error}): {hint}") from error
        self._encoder = Encoder(WEIGHTS / "encoder") if self._confidence else None

    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Extract from windows, as many at once as the key-value cache holds."""
        if self._confidence is None or self._encoder is None:
            return [self._read(answer) for (answer,) in self._generator.write(windows)]
        scores = self._encoder.probabilities(windows)
        passed = [i for i, score in enumerate(scores) if score >= self._confidence.gate or not self._gate]
        results = [Extraction()] * len(windows)
        found = self.find([windows[i] for i in passed], self._encoder, self._confidence.samples, scores[passed])
        for index, findings in zip(passed, found, strict=True):
            results[index] = _choose(findings, self._confidence, self._confidence.points[self._point])
        return results

    def find(
        self,
        windows: Sequence[Sequence[Turn]],
        encoder: Encoder,
        samples: int,
        scores: NDArray[np.float32] | None = None,
    ) -> list[Findings]:
        """Find the candidates of windows, whatever the gate says.

        Args:
            windows: each ends with a user turn.
            encoder: merges rules and finds their evidence.
            samples: how many answers by chance, beside the greedy one.
            scores: the encoder's probabilities, if they are known.
        """
        gates = encoder.probabilities(windows) if scores is None else scores
        greedy = [answers[0] for answers in self._generator.write(windows)]
        sampled = self._generator.write(windows, samples) if samples else [[] for _ in windows]
        return [
            self._gather(window, [first, *others], encoder, float(gate))
            for window, first, others, gate in zip(windows, greedy, sampled, gates, strict=True)
        ]

    def close(self) -> None:
        """Free the model once it is idle; the extractor cannot be used afterwards."""
        self._generator.close()

    def _gather(self, window: Sequence[Turn], answers: Sequence[Written], encoder: Encoder, gate: float) -> Findings:
        lines = [line for number, answer in enumerate(answers) for line in self._lines(answer, number)]
        candidates = merge(lines, encoder.embed([rule_text(line.rule) for line in lines]), len(answers) - 1)
        supports = find_support([candidate.rule for candidate in candidates], window, encoder)
        scored = tuple(
            Scored(candidate, support, _features(candidate, gate, support))
            for candidate, support in zip(candidates, supports, strict=True)
        )
        return Findings(scored, self._read(answers[0]), gate)

    def _lines(self, answer: Written, number: int) -> list[Line]:
        """Return the rules of an answer in lines; what cannot be read is left out."""
        lines: list[Line] = []
        start = 0
        encoder = self._generator.encoder
        borders = [i for i, token in enumerate(answer.ids) if "\n" in encoder.decode([token])]
        for stop in [*borders, len(answer.ids)]:
            rules = encoder.form.read(encoder.decode(answer.ids[start:stop])).preferences
            if len(rules) == 1 and (stop < len(answer.ids) or answer.ended):
                lines.append(Line(rules[0], answer.log_probs[start:stop], number))
            start = stop + 1
        return lines

    def _read(self, answer: Written) -> Extraction:
        if answer.ids[:1] == (self._generator.nothing,):
            return Extraction()
        encoder = self._generator.encoder
        text = encoder.form.prefix + encoder.decode(answer.ids)
        if answer.ended:
            return encoder.form.read(text)
        try:
            closed = encoder.form.close_cut(text)
        except ParseError as error:
            return Extraction(valid=False, error=str(error))
        result = encoder.form.read(closed)
        cut = f"the answer was cut off after {len(answer.ids)} tokens"
        return result.model_copy(update={"repairs": (cut, *result.repairs)})


def _features(candidate: Candidate, gate: float, support: Support) -> tuple[float, ...]:
    odds = float(np.log(max(gate, 1e-6) / max(1 - gate, 1e-6)))
    return (
        candidate.support,
        float(candidate.greedy),
        candidate.mean_log_prob,
        candidate.least_log_prob,
        candidate.first_log_prob,
        candidate.written,
        odds,
        support.score,
    )


def _choose(findings: Findings, confidence: Confidence, least: float) -> Extraction:
    """Keep the candidates that are probable enough and rest on the user's words, the surest first."""
    if not findings.greedy.valid and not findings.scored:
        return findings.greedy
    chances = confidence.of(matrix([scored.features for scored in findings.scored], len(confidence.features)))
    probable = sorted(
        ((chance, scored) for chance, scored in zip(chances, findings.scored, strict=True) if chance >= least),
        key=lambda pair: -pair[0],
    )
    kept = [(chance, scored) for chance, scored in probable if scored.support.score >= confidence.support]
    rules = [s.candidate.rule.model_copy(update={"confidence": round(float(chance), 3)}) for chance, s in kept]
    return Extraction(
        preferences=tuple(rules),
        evidence=tuple(scored.support.evidence for _, scored in kept),
        unsupported=len(probable) - len(kept),
        repairs=findings.greedy.repairs,
    )
