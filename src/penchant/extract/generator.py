"""Answers of a causal LM on OpenVINO GenAI: continuous batching, driven step by step; greedy ones under a grammar."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from penchant.errors import ModelError
from penchant.extract.answer import AnswerForm
from penchant.extract.base import CLOSED, model_failure
from penchant.extract.chat import ChatEncoder
from penchant.extract.window import PromptName
from penchant.runtime import openvino as ov
from penchant.runtime import openvino_genai as genai
from penchant.runtime import release_signal_stack
from penchant.types import Turn

MAX_ANSWER_TOKENS = 384
"""Most tokens of an answer; the longest labelled one has 200 as JSON."""

SAMPLE_TOKENS = 160
TEMPERATURE = 0.8
TOP_K = 20
"""Sampled answers: without the grammar, for only their whole lines count, and a grammar would cost five times more."""

BATCH_SIZE = 256

_CACHE_GIGABYTES = 1
_CACHE_TOKENS = 40_000
"""Most tokens, answers included, in the key-value cache at once; it takes up to 23 KB for each."""

_PREFILL_TOKENS = 2048


@dataclass(frozen=True)
class Written:
    """Tokens that the model wrote, the natural logarithm of each one's probability, and whether it came to an end."""

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    ended: bool


class Generator:
    """Writes answers; may be shared between threads.

    Args:
        folder: a folder that ``penchant.models.prepare`` wrote.
        prompt: the system prompt that the weights were trained with.
        form: the form that they write.

    Raises:
        ModelError: the model cannot be loaded.
    """

    def __init__(self, folder: Path, prompt: PromptName, form: AnswerForm) -> None:
        self._lock = threading.Lock()
        self._pipeline: Any = None
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = _CACHE_GIGABYTES
        scheduler.max_num_seqs = BATCH_SIZE
        scheduler.max_num_batched_tokens = _PREFILL_TOKENS
        scheduler.enable_prefix_caching = True  # a window that was answered greedily is answered again by chance
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._pipeline = genai.ContinuousBatchingPipeline(folder, scheduler, "CPU")
        except Exception as error:  # both libraries raise plain Exception or RuntimeError
            raise ModelError(_last_line(error)) from error
        self.encoder = ChatEncoder(tokenizer, prompt, form)
        self.nothing = self.encoder.text(form.nothing)[0]
        self._configs: dict[int, Any] = {}
        self._requests = itertools.count()

    def close(self) -> None:
        """Free the model once it is idle; it cannot be used afterwards."""
        with self._lock:
            self._pipeline = None
        release_signal_stack()

    def __del__(self) -> None:
        """Free the model."""
        self.close()

    def write(self, windows: Sequence[Sequence[Turn]], samples: int = 0) -> list[list[Written]]:
        """Answer each window: greedily, or ``samples`` times by chance (the same chance every time).

        Raises:
            InputError: a window has no user turn with any text.
            ModelError: the model has been closed, or fails, for want of memory say.
        """
        with self._lock:
            if self._pipeline is None:
                raise ModelError(CLOSED)
            questions = [self.encoder.question(window) + self.encoder.prefix for window in windows]
            try:
                return self._generate(questions, samples)
            except (RuntimeError, MemoryError) as error:
                raise ModelError(model_failure(error)) from error

    def _config(self, samples: int) -> genai.GenerationConfig:
        config = genai.GenerationConfig()
        config.eos_token_id = self.encoder.end
        config.stop_token_ids = {self.encoder.end}
        config.logprobs = 1
        if samples:
            config.max_new_tokens = SAMPLE_TOKENS
            config.do_sample = True
            config.temperature = TEMPERATURE
            config.top_k = TOP_K
            config.num_return_sequences = samples
            config.rng_seed = 0
        else:
            config.max_new_tokens = MAX_ANSWER_TOKENS
            config.structured_output_config = genai.StructuredOutputConfig(grammar=self.encoder.form.grammar)
        return config

    def _generate(self, questions: Sequence[list[int]], samples: int) -> list[list[Written]]:
        """Decode the answers to all questions; a new one starts when one ends. The caller holds the lock."""
        if samples not in self._configs:
            self._configs[samples] = self._config(samples)
        config = self._configs[samples]
        answers: list[list[Written]] = [[] for _ in questions]
        started: list[tuple[list[int], list[float]]] = [([], []) for _ in questions]
        waiting = deque(enumerate(questions))
        active: dict[int, Any] = {}
        room = _CACHE_TOKENS
        try:
            while waiting or active:
                while waiting and (not active or _need(waiting[0][1], samples) <= room):
                    index, ids = waiting.popleft()
                    tensor = ov.Tensor(np.array([ids], dtype=np.int64))
                    active[index] = self._pipeline.add_request(next(self._requests), tensor, config)
                    room -= _need(ids, samples)
                self._pipeline.step()
                for index, handle in list(active.items()):
                    if samples:
                        if handle.get_status() == genai.GenerationStatus.RUNNING:
                            continue
                        answers[index] = [
                            self._written(o.generated_ids, o.generated_log_probs) for o in handle.read_all()
                        ]
                    elif not self._go_on(handle, started[index]):
                        answers[index] = [self._written(*started[index])]
                    else:
                        continue
                    del active[index]
                    room += _need(questions[index], samples)
        finally:  # after an interrupt, nothing of this batch may be left to the next
            for handle in active.values():
                handle.stop()
            if self._pipeline.has_non_finished_requests():  # a stopped one is freed by the next step only
                self._pipeline.step()
        return answers

    def _go_on(self, handle: Any, started: tuple[list[int], list[float]]) -> bool:
        """Take what a greedy request has written; an answer whose first token says "nothing" ends there."""
        ids, log_probs = started
        while handle.can_read():
            for output in handle.read().values():
                ids += output.generated_ids
                log_probs += output.generated_log_probs
        if ids[:1] == [self.nothing]:
            handle.stop()
            return False
        return bool(handle.get_status() == genai.GenerationStatus.RUNNING)

    def _written(self, ids: Sequence[int], log_probs: Sequence[float]) -> Written:
        ended = bool(ids) and (ids[-1] == self.encoder.end or ids[0] == self.nothing)
        return Written(tuple(ids), tuple(log_probs), ended)


def _need(question: list[int], samples: int) -> int:
    """Return how many tokens of the cache a question and its answers may take."""
    return len(question) + (SAMPLE_TOKENS * samples or MAX_ANSWER_TOKENS)


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
