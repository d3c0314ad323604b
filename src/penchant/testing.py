"""An extractor without a model and a store without a file, to test code that uses Penchant."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.errors import PenchantError, StoreError
from penchant.extract.base import Extractor, renumber
from penchant.extract.window import select_window, window_places
from penchant.memory.store import Changes, ConflictError, Snapshot, check_id, share_out
from penchant.types import Card, Extraction, Turn


class ScriptedExtractor(Extractor):
    """Answers as a function says, from what a model would be shown.

    ``batch_sizes`` lists how many windows each batch had; ``closed`` says whether ``close`` was called.

    Args:
        script: the window (at most six turns, the last of them the user's) -> its extraction; a
            ``PenchantError`` that it raises makes that window's extraction not valid.
        batch_size: most windows in a batch.
    """

    def __init__(self, script: Callable[[Sequence[Turn]], Extraction], batch_size: int = 16) -> None:
        self.batch_size = batch_size
        self.batch_sizes: list[int] = []
        self.closed = False
        self._script = script

    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Ask the script about each window, in order."""
        self.batch_sizes.append(len(windows))
        return [self._extract_one(window) for window in windows]

    def close(self) -> None:
        """Note that the extractor was closed."""
        self.closed = True

    def _extract_one(self, window: Sequence[Turn]) -> Extraction:
        try:
            return renumber(self._script(select_window(window)), window_places(window))
        except PenchantError as error:
            return Extraction(valid=False, error=str(error))


class MemoryStore:
    """A store of memories that keeps nothing on disk; may be shared between threads."""

    def __init__(self) -> None:
        self._users: dict[str, _Kept] = {}
        self._shared: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def version(self, user: str) -> int:
        """Return the version of a user's memory, or 0."""
        with self._lock:
            kept = self._users.get(check_id(user))
            return kept.version if kept else 0

    def read(self, user: str, model: str) -> Snapshot:
        """Return a user's memory at one moment."""
        with self._lock:
            kept = self._users.get(check_id(user))
            if kept is None:
                return Snapshot()
            cards = tuple(kept.cards[card] for card in sorted(kept.cards))
            vectors = {card: vector for (card, name), vector in kept.vectors.items() if name == model}
            return Snapshot(kept.version, cards, vectors, dict(kept.values))

    def write(self, user: str, version: int, changes: Changes) -> int:
        """Change a user's memory, all or nothing, and return its new version."""
        with self._lock:
            kept = self._users.get(check_id(user))
            if (kept.version if kept else 0) != version:
                raise ConflictError("another writer was faster: read again")
            cards = dict(kept.cards) if kept else {}
            for gone in changes.deleted:
                cards.pop(gone, None)
            cards |= {card.id: card for card in changes.cards}
            if not changes.vectors.keys() <= cards.keys():
                raise StoreError("a vector has no card")
            vectors = {key: vector for key, vector in (kept.vectors if kept else {}).items() if key[0] in cards}
            reworded = {card.id for card in changes.cards} & changes.vectors.keys()
            vectors = {key: vector for key, vector in vectors.items() if key[0] not in reworded}
            for gone in changes.deleted:
                vectors = {key: vector for key, vector in vectors.items() if key[0] != gone}
            for card, vector in changes.vectors.items():
                vectors[card, changes.model] = np.array(vector, np.float32)
            values = {**(kept.values if kept else {}), **changes.values}
            # a deleted user who comes back must not have a version that somebody remembers
            new = version + 1 if kept else secrets.randbits(62) | 1
            self._users[user] = _Kept(
                new, cards, vectors, {name: value for name, value in values.items() if value is not None}
            )
            return new

    def delete_user(self, user: str) -> bool:
        """Delete all that is stored of a user; say whether there was anything."""
        with self._lock:
            there = self._users.pop(check_id(user), None) is not None
            if not self._users:
                self._shared.clear()
            return there

    def users(self) -> Iterator[str]:
        """Yield the ids of users, sorted."""
        with self._lock:
            found = sorted(self._users, key=str.encode)
        yield from found

    def count_vectors(self, model: str) -> int:
        """Return how many vectors there are."""
        with self._lock:
            return sum(name == model for kept in self._users.values() for _, name in kept.vectors)

    def sample_vectors(self, model: str, count: int) -> NDArray[np.float32]:
        """Return at most ``count`` vectors, as many of each user; the same ones as long as nothing changes."""
        with self._lock:
            users = list(self._users.values())
        mine = [[vector for (_, name), vector in kept.vectors.items() if name == model] for kept in users]
        quotas = share_out({place: len(vectors) for place, vectors in enumerate(mine)}, count)
        return np.array([vector for place, quota in quotas.items() for vector in mine[place][:quota]], np.float32)

    def shared(self, name: str) -> bytes | None:
        """Return a value that belongs to no user."""
        with self._lock:
            return self._shared.get(name)

    def share(self, name: str, value: bytes, before: bytes | None) -> bool:
        """Keep a value that belongs to no user, if it still is ``before``; say whether it was."""
        with self._lock:
            if self._shared.get(name) != before:
                return False
            self._shared[name] = value
            return True

    def forget(self) -> None:
        """Do nothing: what was deleted is nowhere."""

    def close(self) -> None:
        """Let go of nothing: what is stored stays."""


@dataclass(frozen=True)
class _Kept:
    """What is stored of a user; never changed, only replaced."""

    version: int
    cards: dict[str, Card] = field(default_factory=dict)
    vectors: dict[tuple[str, str], NDArray[np.float32]] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)
