"""Extraction by any server that speaks OpenAI's chat completions (vLLM, Ollama, TGI, llama.cpp, OpenAI).

Structured outputs are asked for. A server that refuses the request for them is asked again without; one
that silently ignores them is met by tolerant parsing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from penchant.config import endpoint_key, endpoint_url
from penchant.errors import InputError, ParseError
from penchant.extract.base import Extractor
from penchant.extract.schema import PREFERENCE_LIST_SCHEMA, parse_tolerant, unique
from penchant.extract.window import PromptName, build_messages
from penchant.types import Extraction, Turn

_RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "PreferenceList", "strict": True, "schema": PREFERENCE_LIST_SCHEMA},
}
_REFUSED = (400, 404, 415, 422, 501)
"""How servers without structured outputs answer a request that asks for them."""


class EndpointExtractor(Extractor):
    """Ask a server, several windows at a time.

    The key is read from the environment (``PENCHANT_API_KEY``, else ``OPENAI_API_KEY``) and never logged.

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
        InputError: no model is named.
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
        self._model, self._prompt, self._max_tokens = model, prompt, max_tokens
        self._client = openai.OpenAI(
            api_key=endpoint_key() or "none", base_url=base_url or endpoint_url(), timeout=timeout, max_retries=retries
        )
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="penchant-endpoint")
        self._structured = threading.Event()
        self._structured.set()

    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Extract from windows; a request that fails for good makes that window's extraction not valid."""
        return list(self._pool.map(self._extract_one, windows))

    def close(self) -> None:
        """Drop the requests not yet sent and close the connections."""
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def _extract_one(self, window: Sequence[Turn]) -> Extraction:
        try:
            completion = self._complete(window)
        except openai.OpenAIError as error:
            return Extraction(valid=False, error=_describe(error))
        if not completion.choices:
            return Extraction(valid=False, error="the server answered without a choice")
        choice = completion.choices[0]
        if choice.message.refusal:
            return Extraction(valid=False, error=f"the model refused: {choice.message.refusal[:200]}")
        try:
            rules, repairs = parse_tolerant(choice.message.content or "")
        except ParseError as error:
            return Extraction(valid=False, error=str(error))
        return Extraction(preferences=unique(rules), repairs=repairs)

    def _complete(self, window: Sequence[Turn]) -> ChatCompletion:
        if self._structured.is_set():
            try:
                return self._request(window, response_format=_RESPONSE_FORMAT)
            except openai.APIStatusError as error:
                if error.status_code not in _REFUSED:
                    raise
                completion = self._request(window)  # if this fails too, the format was not to blame
                self._structured.clear()
                return completion
        return self._request(window)

    def _request(self, window: Sequence[Turn], **options: Any) -> ChatCompletion:
        completion = self._client.chat.completions.create(
            model=self._model,
            messages=build_messages(window, self._prompt),  # type: ignore[arg-type]
            temperature=0,
            max_tokens=self._max_tokens,
            **options,
        )
        if not isinstance(completion, ChatCompletion):  # the body was no JSON object
            raise openai.OpenAIError("the server's answer is not a chat completion")
        return completion


def _describe(error: openai.OpenAIError) -> str:
    if isinstance(error, openai.APITimeoutError):
        return "the server did not answer in time"
    if isinstance(error, openai.APIConnectionError):
        return f"cannot reach the server: {error.__cause__ or error}"
    if isinstance(error, openai.APIStatusError):
        return f"the server answered {error.status_code}: {error.message[:200]}"
    return str(error)[:200]
