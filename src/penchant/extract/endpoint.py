"""Extraction by any server that speaks OpenAI's chat completions (vLLM, Ollama, TGI, llama.cpp, OpenAI).

Structured outputs are asked for. A server that refuses the request for them is asked again without; one
that silently ignores them is met by tolerant parsing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import openai
from pydantic import ValidationError

from penchant.errors import InputError, ModelError
from penchant.extract.base import CLOSED, Extractor
from penchant.extract.schema import PREFERENCE_LIST_SCHEMA, read_answer
from penchant.extract.window import PromptName, build_messages, check_prompt
from penchant.servers import Completion, connect, explain
from penchant.types import Extraction, Turn

_RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "PreferenceList", "strict": True, "schema": PREFERENCE_LIST_SCHEMA},
}
_REFUSED = (400, 404, 415, 422, 501)
"""How servers without structured outputs answer a request that asks for them."""

_log = logging.getLogger(__name__)


class EndpointExtractor(Extractor):
    """Ask a server, several windows at a time.

    The key is read from the environment and never logged, nor part of an error's text: ``PENCHANT_API_KEY``, else
    ``OPENAI_API_KEY``, which is not sent to a server named by ``base_url``.

    Args:
        model: the model's name on the server.
        base_url: e.g. ``http://localhost:8000/v1``; None: ``OPENAI_BASE_URL``, else OpenAI.
        prompt: the system prompt that the model was trained with.
        timeout: seconds for one request.
        retries: how often a request is repeated after a timeout, a lost connection, 408, 409, 429 or 5xx,
            with exponential backoff.
        concurrency: most requests at once.
        max_tokens: most tokens of an answer.

    Raises:
        InputError: no model is named, or the key or the URL cannot be used.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        prompt: PromptName = "card",
        timeout: float = 60.0,
        retries: int = 4,
        concurrency: int = 8,
        max_tokens: int = 512,
    ) -> None:
        if not model:
            raise InputError("name the model that the server should run: model='...' or --model")
        self.batch_size = 8 * concurrency
        self._model, self._prompt, self._max_tokens = model, check_prompt(prompt), max_tokens
        self._closed = False
        self._client = connect(base_url, timeout=timeout, retries=retries)
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="penchant-endpoint")
        self._structured = threading.Event()
        self._structured.set()

    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Extract from windows; a request that fails for good makes that window's extraction not valid."""
        try:
            return list(self._pool.map(self._extract_one, windows))
        except (RuntimeError, CancelledError) as error:  # of a pool that is, or is being, shut down
            if self._closed:
                raise ModelError(CLOSED) from error
            raise

    def close(self) -> None:
        """Drop the requests not yet sent, and the connections of those that are."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _extract_one(self, window: Sequence[Turn]) -> Extraction:
        try:
            choice = self._complete(window).choices[0]
            message = choice.message
            if message.refusal:
                return self._failure(f"the model refused: {message.refusal}")
            if choice.finish_reason == "length" and not (message.content or "").strip():
                return self._failure(f"cut off after {self._max_tokens} tokens, before any answer: raise max_tokens")
        except (openai.OpenAIError, ValidationError) as error:
            return self._failure(error)
        return read_answer(message.content or "")

    def _failure(self, failure: openai.OpenAIError | ValidationError | str) -> Extraction:
        return Extraction(valid=False, error=explain(self._client, failure))

    def _complete(self, window: Sequence[Turn]) -> Completion:
        if self._structured.is_set():
            try:
                return self._request(window, response_format=_RESPONSE_FORMAT)
            except openai.APIStatusError as error:
                if error.status_code not in _REFUSED:
                    raise
                completion = self._request(window)  # if this fails too, the format was not to blame
                self._structured.clear()
                _log.info(
                    "the server refuses structured outputs (%d); answers are parsed as they come", error.status_code
                )
                return completion
        return self._request(window)

    def _request(self, window: Sequence[Turn], **options: Any) -> Completion:
        response = self._client.chat.completions.with_raw_response.create(
            model=self._model,
            messages=build_messages(window, self._prompt),  # type: ignore[arg-type]
            temperature=0,
            max_tokens=self._max_tokens,
            **options,
        )
        return Completion.model_validate_json(response.content)
