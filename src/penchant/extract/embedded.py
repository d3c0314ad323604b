"""The default extractor: fine-tuned SmolLM2-135M on OpenVINO GenAI, on the CPU, without torch.

Decoding is greedy under a grammar that admits exactly the canonical text of the PreferenceList, so every
answer is valid JSON. What would be written anyway is not decoded: the answer's beginning is part of the
prompt, and an answer whose first token says "no preferences" ends there, before any decoding step.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as genai
from tokenizers import Tokenizer

from penchant.errors import ModelError, ParseError
from penchant.extract.base import Extractor
from penchant.extract.chat import ChatEncoder
from penchant.extract.schema import ANSWER_GRAMMAR, ANSWER_PREFIX, close_cut_answer, parse_tolerant, unique
from penchant.extract.window import PromptName
from penchant.models.catalog import EMBEDDED
from penchant.models.store import ModelStore
from penchant.types import Extraction, Turn

PROMPT: PromptName = "card"
"""The system prompt that the shipped weights were trained with."""

MAX_ANSWER_TOKENS = 384
"""Most tokens of an answer; the longest labelled one has 200."""

_CACHE_GIGABYTES = 1
_BATCH_TOKENS = 40_000
"""Most tokens, answers included, in the key-value cache at once; it takes up to 23 KB for each."""

_PREFILL_TOKENS = 2048
_NOTHING = " []}"


class EmbeddedExtractor(Extractor):
    """SmolLM2-135M-Instruct, fine-tuned for this task; fetched and prepared on first use.

    Args:
        model: a folder that ``penchant.models.prepare`` wrote; None: the shipped model.

    Raises:
        ModelError: the model cannot be fetched, prepared or loaded.
    """

    batch_size = 128

    def __init__(self, model: str | None = None) -> None:
        folder = Path(model) if model else ModelStore.default().ensure(EMBEDDED)
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = _CACHE_GIGABYTES
        scheduler.max_num_seqs = self.batch_size
        scheduler.max_num_batched_tokens = _PREFILL_TOKENS
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._pipeline = genai.ContinuousBatchingPipeline(folder, scheduler, "CPU")
        except Exception as error:  # both libraries raise plain Exception or RuntimeError
            hint = f"{folder} must be a folder that Penchant prepared" if model else "run `penchant models verify`"
            raise ModelError(f"cannot load the embedded model ({_first_line(error)}): {hint}") from error
        self._encoder = ChatEncoder(tokenizer, PROMPT)
        self._nothing = self._encoder.text(_NOTHING)[0]
        self._config = self._generation_config()
        self._requests = itertools.count()
        self._lock = threading.Lock()

    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Extract from windows; several batches if their tokens do not fit the cache together."""
        questions = [self._encoder.question(window) for window in windows]
        answers: list[Extraction] = []
        with self._lock:
            for batch in _fitting(questions):
                answers += [self._read(ids) for ids in self._generate(batch)]
        return answers

    def _generation_config(self) -> genai.GenerationConfig:
        config = genai.GenerationConfig()
        config.max_new_tokens = MAX_ANSWER_TOKENS
        config.eos_token_id = self._encoder.end
        config.stop_token_ids = {self._encoder.end}
        config.structured_output_config = genai.StructuredOutputConfig(grammar=ANSWER_GRAMMAR)
        return config

    def _generate(self, questions: Sequence[list[int]]) -> list[list[int]]:
        """Decode all questions together; the caller holds the lock."""
        answers: list[list[int]] = [[] for _ in questions]
        active = {}
        try:
            for index, ids in enumerate(questions):
                tensor = ov.Tensor(np.array([ids], dtype=np.int64))
                active[index] = self._pipeline.add_request(next(self._requests), tensor, self._config)
            while self._pipeline.has_non_finished_requests():
                self._pipeline.step()
                for index, handle in list(active.items()):
                    while handle.can_read():
                        for output in handle.read().values():
                            answers[index] += output.generated_ids
                    if answers[index][:1] == [self._nothing]:
                        handle.stop()
                        del active[index]
        finally:  # after an interrupt, nothing of this batch may be left to the next
            for handle in active.values():
                handle.stop()
        return answers

    def _read(self, ids: list[int]) -> Extraction:
        if ids[:1] == [self._nothing]:
            return Extraction()
        text = ANSWER_PREFIX + self._encoder.decode(ids)
        if ids[-1:] == [self._encoder.end]:
            rules, repairs = parse_tolerant(text)
            return Extraction(preferences=unique(rules), repairs=repairs)
        try:
            rules, repairs = parse_tolerant(close_cut_answer(text))
        except ParseError as error:
            return Extraction(valid=False, error=str(error))
        return Extraction(
            preferences=unique(rules), repairs=(f"the answer was cut off after {len(ids)} tokens", *repairs)
        )


def _fitting(questions: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """Split questions into batches that fit the key-value cache with their answers."""
    batch: list[list[int]] = []
    room = _BATCH_TOKENS
    for ids in questions:
        need = len(ids) + MAX_ANSWER_TOKENS
        if batch and need > room:
            yield batch
            batch, room = [], _BATCH_TOKENS
        batch.append(ids)
        room -= need
    yield batch


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
