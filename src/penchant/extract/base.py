"""What every extractor is: windows in, extractions out, in order."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, Self, TypeVar

from penchant.errors import InputError
from penchant.extract.dialogue import numbered_turns
from penchant.types import Extraction, Turn

AnyTurn = Turn | Mapping[str, Any]
Key = TypeVar("Key")
Item = TypeVar("Item")
Kind = Literal["embedded", "transformers", "endpoint"]

CLOSED = "this extractor has been closed: load another"


class Extractor(ABC):
    """Extract preferences from dialogues; the object may be shared between threads.

    A dialogue is a sequence of turns, oldest first: ``Turn`` objects or mappings in the OpenAI form
    (``role``, ``content``) or the ShareGPT form (``from``, ``value``). What is read of it is the last six
    turns up to its last user turn (see ``window.py``).
    """

    batch_size: int
    """Windows handed to the model together."""

    @staticmethod
    def load(kind: Kind = "embedded", model: str | None = None, **options: Any) -> Extractor:
        """Load an extractor.

        Args:
            kind: ``embedded`` (the default: fine-tuned SmolLM2 on the CPU, fetched on first use),
                ``transformers`` (a causal LM by hub id or local path) or ``endpoint`` (an OpenAI-compatible server).
            model: which model; the embedded extractor has one of its own.
            options: passed to the class of that kind.

        Raises:
            InputError: no such kind.
            ModelError: the model cannot be found, fetched or loaded.
            MissingExtra: this kind needs an optional dependency.
        """
        if kind == "embedded":
            from penchant.extract.embedded import EmbeddedExtractor

            return EmbeddedExtractor(model, **options)
        if kind == "transformers":
            from penchant.extract.transformers import TransformersExtractor

            return TransformersExtractor(model, **options)
        if kind == "endpoint":
            from penchant.extract.endpoint import EndpointExtractor

            return EndpointExtractor(model, **options)
        raise InputError(f"no extractor {kind!r}: choose embedded, transformers or endpoint")

    @abstractmethod
    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Extract from windows that each end with a user turn; one result for each, in order.

        A window that fails gives an extraction that is not valid; the others are not affected. Where a model fails
        at all that it reads together, for want of memory say, this holds for each of these windows.

        Raises:
            ModelError: the extractor has been closed.
        """

    def extract(self, turns: Sequence[AnyTurn]) -> Extraction:
        """Extract from one dialogue.

        Raises:
            InputError: the turns cannot be read, or none of them is a user turn with text.
            ModelError: the extractor has been closed.
        """
        numbered = numbered_turns(turns)
        places, window = zip(*numbered, strict=True)
        return renumber(self.extract_batch([window])[0], places)

    def extract_many(self, dialogues: Iterable[Sequence[AnyTurn]]) -> Iterator[Extraction]:
        """Extract from any number of dialogues; results come in order, as soon as their batch is done.

        The input is consumed lazily, a batch at a time: first eight dialogues, then ``batch_size`` of them, and a slow
        input is waited for until a batch is full. A dialogue that cannot be read gives an extraction that is not
        valid and says why.
        """
        for _, extraction in self.extract_keyed((None, dialogue) for dialogue in dialogues):
            yield extraction

    def extract_keyed(
        self, items: Iterable[tuple[Key, Sequence[AnyTurn] | InputError]]
    ) -> Iterator[tuple[Key, Extraction]]:
        """Do as ``extract_many`` for dialogues with a key; an ``InputError`` in place of one passes through."""
        for batch in self._batches(items):
            yield from self._extract_readable(batch)

    async def aextract(self, turns: Sequence[AnyTurn]) -> Extraction:
        """Extract from one dialogue without blocking the event loop."""
        return await asyncio.to_thread(self.extract, turns)

    async def aextract_many(self, dialogues: Iterable[Sequence[AnyTurn]]) -> AsyncIterator[Extraction]:
        """Do as ``extract_many`` without blocking the event loop; dialogues are taken from the iterable in a thread."""
        batches = self._batches((None, dialogue) for dialogue in dialogues)
        while batch := await asyncio.to_thread(lambda: next(batches, None)):
            for _, extraction in await asyncio.to_thread(self._extract_readable, batch):
                yield extraction

    def close(self) -> None:  # noqa: B027 - most extractors hold nothing
        """Free what the extractor holds."""

    def __enter__(self) -> Self:
        """Return the extractor itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the extractor."""
        self.close()

    def _batches(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Group items; the first group is small, so that the first results come soon. Each is full before it goes."""
        iterator = iter(items)
        size = min(8, self.batch_size)
        while batch := list(islice(iterator, size)):
            yield batch
            size = self.batch_size

    def _extract_readable(
        self, items: Sequence[tuple[Key, Sequence[AnyTurn] | InputError]]
    ) -> list[tuple[Key, Extraction]]:
        windows: list[list[tuple[int, Turn]]] = []
        failures: list[Extraction | None] = []
        for _, dialogue in items:
            try:
                if isinstance(dialogue, InputError):
                    raise dialogue
                windows.append(numbered_turns(dialogue))
                failures.append(None)
            except InputError as error:
                failures.append(Extraction(valid=False, error=str(error)))
        found = self.extract_batch([[turn for _, turn in window] for window in windows]) if windows else []
        extracted = map(renumber, found, ([place for place, _ in window] for window in windows))
        return [(key, failure or next(extracted)) for (key, _), failure in zip(items, failures, strict=True)]


def model_failure(error: Exception) -> str:
    """Say in one line that a loaded model failed, and why."""
    return f"the model failed: {' '.join(str(error).split())[:300] or type(error).__name__}"


def renumber(result: Extraction, places: Sequence[int]) -> Extraction:
    """Let the evidence point into the dialogue from which a window was taken; ``places``: of the window's turns."""
    if not result.evidence:
        return result
    evidence = tuple(item.model_copy(update={"turn": places[item.turn]}) for item in result.evidence)
    return result.model_copy(update={"evidence": evidence})
