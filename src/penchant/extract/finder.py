"""Windows -> candidate rules: the likeliest answer and any number by chance, merged, each with its evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penchant.errors import ModelError, ParseError
from penchant.extract.answer import ModelForm
from penchant.extract.candidates import Candidate, Line, merge
from penchant.extract.encoder import Encoder
from penchant.extract.evidence import Support, find_support, rule_text
from penchant.extract.generator import Generator, Written
from penchant.extract.schema import MAX_RULES
from penchant.types import Extraction, Turn

SURELY = math.log(0.9)
"""From this log probability on, "no rule" is taken for sure: hardly any sampled answer says otherwise."""


@dataclass(frozen=True)
class Scored:
    """A candidate with its evidence and its features, in the order of ``candidates.FEATURES``."""

    candidate: Candidate
    support: Support
    features: tuple[float, ...]


@dataclass(frozen=True)
class Findings:
    """All candidates of a window, and its likeliest readable answer."""

    scored: tuple[Scored, ...]
    greedy: Extraction


class Finder:
    """Asks the language model; may be shared between threads.

    Args:
        folder: a folder that ``penchant.models.prepare`` wrote.
        form: what the model reads and writes.
        encoder: merges rules and finds their evidence; None: there are no candidates, only greedy answers.

    Raises:
        ModelError: the model cannot be loaded, or candidates are asked of one that does not write lines.
    """

    def __init__(self, folder: Path, form: ModelForm, encoder: Encoder | None) -> None:
        if encoder and form.answer != "lines":
            raise ModelError(f"{folder} writes {form.answer}: only a model that writes lines can be calibrated")
        self._generator = Generator(folder, form.prompt, form.answer_form)
        self._encoder = encoder

    def answer(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Return the greedy answers as they read."""
        return [self._read(answer) for (answer,) in self._generator.write(windows)]

    def find(self, windows: Sequence[Sequence[Turn]], gates: Sequence[float], samples: int) -> list[Findings]:
        """Find the candidates of windows.

        Args:
            windows: each ends with a user turn.
            gates: the encoder's probability for each.
            samples: how many answers by chance, beside the greedy one, where that does not surely say "no rule".
        """
        encoder = self._encoder
        if encoder is None:
            raise ModelError("candidates need the encoder")
        answers = self._generator.write(windows)
        open_ = [place for place, (greedy,) in enumerate(answers) if samples and not self._is_surely_nothing(greedy)]
        sampled = self._generator.write([windows[place] for place in open_], samples)
        for place, others in zip(open_, sampled, strict=True):
            answers[place] += others
        lines = [
            [line for number, answer in enumerate(written) for line in self._lines(answer, number)]
            for written in answers
        ]
        vectors = encoder.embed([rule_text(line.rule) for found in lines for line in found])
        done = 0
        findings = []
        for window, written, found, gate in zip(windows, answers, lines, gates, strict=True):
            directions = vectors[done : done + len(found)]
            done += len(found)
            candidates = merge(found, directions, samples)
            supports = find_support([candidate.rule for candidate in candidates], window, encoder)
            scored = (
                Scored(candidate, support, _features(candidate, gate, support))
                for candidate, support in zip(candidates, supports, strict=True)
            )
            findings.append(Findings(tuple(scored), self._likeliest(written)))
        return findings

    def close(self) -> None:
        """Free the model once it is idle."""
        self._generator.close()

    def _is_surely_nothing(self, answer: Written) -> bool:
        return self._is_nothing(answer) and answer.log_probs[0] >= SURELY

    def _is_nothing(self, answer: Written) -> bool:
        return answer.ids[:1] == (self._generator.nothing,)

    def _likeliest(self, answers: Sequence[Written]) -> Extraction:
        """Read the greedy answer, or, where that cannot be read, the first one that can."""
        greedy = self._read(answers[0])
        others = (self._read(answer) for answer in answers[1:] if not greedy.valid)
        found = next((read for read in others if read.valid), greedy)
        if found is greedy:
            return greedy
        return found.model_copy(update={"repairs": (f"took another answer: {greedy.error}", *found.repairs)})

    def _lines(self, answer: Written, number: int) -> list[Line]:
        """Return the rules of an answer; what cannot be read, or has no end, is left out."""
        encoder = self._generator.encoder
        ids = answer.ids[:-1] if answer.ids[-1:] == (encoder.end,) else answer.ids
        borders = [place for place, token in enumerate(ids) if "\n" in encoder.decode([token])]
        lines: list[Line] = []
        for start, stop in zip([0, *(place + 1 for place in borders)], [*borders, len(ids)], strict=True):
            rules = encoder.form.read(encoder.decode(ids[start:stop])).preferences
            if rules and (stop < len(ids) or answer.ended):
                begun = answer.log_probs[max(0, start - 1)]  # the line break's, against the end's
                lines.append(Line(rules[0], answer.log_probs[start:stop], begun, number))
        return lines[:MAX_RULES]

    def _read(self, answer: Written) -> Extraction:
        encoder = self._generator.encoder
        if self._is_nothing(answer):
            return Extraction()
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
        support.cosine,
    )
