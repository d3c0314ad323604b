"""Servers that speak OpenAI's API (vLLM, Ollama, TGI, llama.cpp, OpenAI): client, answers, and what went wrong."""

from __future__ import annotations

import openai
from pydantic import BaseModel, Field, ValidationError

from penchant.config import endpoint_key, endpoint_url
from penchant.errors import InputError, first_fault
from penchant.text import clean_text

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
