"""Extraction by any server that speaks OpenAI's chat completions (vLLM, Ollama, TGI, llama.cpp, OpenAI).

Structured outputs are asked for. A server that refuses the request for them is asked again without; one
that silently ignores them is met by tolerant parsing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
from pydantic import BaseModel, Field, ValidationError

from penchant.config import endpoint_key, endpoint_url
from penchant.errors import InputError, first_fault
from penchant.extract.base import Extractor
from penchant.extract.schema import PREFERENCE_LIST_SCHEMA, read_answer
from penchant.extract.window import SYSTEM_PROMPTS, PromptName, build_messages, clean_text
from penchant.types import Extraction, Turn

_RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "PreferenceList", "strict": True, "schema": PREFERENCE_LIST_SCHEMA},
}
_REFUSED = (400, 404, 415, 422, 501)
"""How servers without structured outputs answer a request that asks for them."""

_log = logging.getLogger(__name__)

_NO_KEY = "no-key"
"""The key sent when there is none; servers that need no key take any."""


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class Usage(BaseModel):
    """The tokens that the server counts."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Completion(BaseModel):
    """What is read of an answer: servers differ in the rest, and the SDK checks none of it."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Usage | None = None


def connect(base_url: str | None, *, timeout: float, retries: int) -> openai.OpenAI:
    """Make a client for a server, with the key from the environment (see ``EndpointExtractor``).

    Raises:
        InputError: the key or the URL cannot be used.
    """
    key = (endpoint_key(openai=base_url is None) or "").strip() or _NO_KEY
    if not (key.isascii() and key.isprintable()):
        raise InputError("the key in PENCHANT_API_KEY or OPENAI_API_KEY has characters that cannot be sent")
    url = base_url or endpoint_url()
    if url and not url.startswith(("http://", "https://")):
        raise InputError(f"the endpoint's URL must begin with http:// or https://, not {url[:60]!r}")
    try:
        return openai.OpenAI(api_key=key, base_url=url, timeout=timeout, max_retries=retries)
    except Exception as error:  # whatever the HTTP library raises for a URL it cannot read
        raise InputError(f"the endpoint's URL {str(url)[:60]!r} cannot be used: {error}") from error


def explain(client: openai.OpenAI, failure: openai.OpenAIError | ValidationError | str) -> str:
    """Say in a line of at most 300 characters why there is no answer, without the key, which servers may quote."""
    reason = failure if isinstance(failure, str) else _describe(failure)
    return " ".join(clean_text(reason.replace(client.api_key, "[key]")).split())[:300]


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
        if prompt not in SYSTEM_PROMPTS:
            raise InputError(f"no prompt {prompt!r}: choose {' or '.join(SYSTEM_PROMPTS)}")
        self.batch_size = 8 * concurrency
        self._model, self._prompt, self._max_tokens = model, prompt, max_tokens
        self._client = connect(base_url, timeout=timeout, retries=retries)
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="penchant-endpoint")
        self._structured = threading.Event()
        self._structured.set()

    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Extract from windows; a request that fails for good makes that window's extraction not valid."""
        return list(self._pool.map(self._extract_one, windows))

    def close(self) -> None:
        """Drop the requests not yet sent, and the connections of those that are."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _extract_one(self, window: Sequence[Turn]) -> Extraction:
        try:
            message = self._complete(window).choices[0].message
            if message.refusal:
                return self._failure(f"the model refused: {message.refusal}")
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


def _describe(error: openai.OpenAIError | ValidationError) -> str:
    if isinstance(error, openai.APITimeoutError):
        return "the server did not answer in time"
    if isinstance(error, openai.APIConnectionError):
        return f"cannot reach the server: {error.__cause__ or error}"
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        return f"the server answered {status}: {error.message.removeprefix(f'Error code: {status} - ')}"
    if isinstance(error, ValidationError):
        return f"the server's answer is not a chat completion: {first_fault(error, 'body')}"
    return str(error)
