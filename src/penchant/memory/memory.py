"""A user's cards: add, list, edit, pin, delete, export and import, on any store."""

from __future__ import annotations

import base64
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from penchant.errors import InputError, first_fault
from penchant.memory.merge import Merged, Relate, merge, new_id
from penchant.memory.scope import is_global
from penchant.memory.store import Changes, ConflictError, Snapshot, Store
from penchant.types import Card, Embedder, Preference, Source, note, utc_now

CACHED_CARDS = 50_000
"""Most cards that stay in memory, of the users who came last, so that a turn does not read them again."""

TRIES = 50
"""How often a change is made anew because another writer was faster."""

FORMAT = "penchant-memory-1"

_Result = TypeVar("_Result")


class Scrub(Protocol):
    """Takes deleted cards out of what else is kept of a user."""

    def __call__(self, values: Mapping[str, bytes], deleted: frozenset[str]) -> Mapping[str, bytes | None]:
        """Return the values that change; None deletes one."""


class Cards:
    """A user's memory at one moment.

    Args:
        snapshot: as it is stored.
        embedder: embeds the notes whose vectors the store lacks, once vectors are asked for.
        dimensions: returns how long its vectors are; a stored one of another length counts as lacking.
    """

    def __init__(self, snapshot: Snapshot, embedder: Embedder, dimensions: Callable[[], int]) -> None:
        self.snapshot, self._embedder, self.dimensions = snapshot, embedder, dimensions
        self._matrix: NDArray[np.float32] | None = None
        self.unsaved: Mapping[str, NDArray[np.float32]] = {}
        """Vectors that were computed because the store lacks them, by the card's id."""

    @cached_property
    def active(self) -> tuple[Card, ...]:
        """The cards that may be retrieved, oldest first."""
        return tuple(card for card in self.snapshot.cards if card.is_active)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors of the active cards' notes, shape (cards, dimensions)."""
        if self._matrix is None:
            long = self.dimensions() if self.active else 0
            known = {card: vector for card, vector in self.snapshot.vectors.items() if len(vector) == long}
            missing = [card for card in self.active if card.id not in known]
            if missing:  # they were embedded by another model
                new = self._embedder.embed([card.note for card in missing])
                self.unsaved = dict(zip((card.id for card in missing), new, strict=True))
                known |= self.unsaved
            rows = [known[card.id] for card in self.active]
            self._matrix = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
        return self._matrix

    def after(self, snapshot: Snapshot) -> Cards:
        """Return the memory after a write; what was computed stays if the cards did."""
        new = Cards(snapshot, self._embedder, self.dimensions)
        if snapshot.cards is self.snapshot.cards and not self.unsaved:  # as in most turns
            new._matrix = self._matrix
        return new


class Memory:
    """Users' cards; may be shared between threads.

    Args:
        store: keeps them.
        embedder: embeds their notes; cards of another embedder's are embedded again when they are read.
        relate: says whether two rules are the same or contradict each other; None: only the same words are the same.
        scrub: takes deleted cards out of what else is kept of a user; None: nothing else is kept.
    """

    def __init__(
        self, store: Store, embedder: Embedder, relate: Relate | None = None, scrub: Scrub | None = None
    ) -> None:
        self._store, self._embedder, self._relate, self._scrub = store, embedder, relate, scrub
        self._cache: OrderedDict[str, Cards] = OrderedDict()
        self._cached = 0
        self._lock = threading.Lock()

    def read(self, user: str) -> Cards:
        """Return a user's memory; one of whom nothing is stored has an empty one."""
        version = self._store.version(user)
        with self._lock:
            cached = self._cache.get(user)
            if cached and cached.snapshot.version == version:
                self._cache.move_to_end(user)
                return cached
        snapshot = self._store.read(user, self._embedder.name)
        return self._keep(user, Cards(snapshot, self._embedder, lambda: self._dimensions))

    def change(self, user: str, decide: Callable[[Cards], tuple[Changes | None, _Result]]) -> _Result:
        """Read, decide and write; decide again if another writer was faster.

        Args:
            user: whose memory.
            decide: returns what to write (None: nothing) and what this method shall return; may be called repeatedly.

        Raises:
            ConflictError: others were faster ``TRIES`` times.
        """
        for _ in range(TRIES):
            cards = self.read(user)
            changes, result = decide(cards)
            if changes is None:
                return result
            if cards.unsaved:
                vectors = {**cards.unsaved, **changes.vectors}
                gone = set(changes.deleted)
                kept = {card: vector for card, vector in vectors.items() if card not in gone}
                changes = replace(changes, vectors=kept, model=self._embedder.name)
            try:
                version = self._store.write(user, cards.snapshot.version, changes)
            except ConflictError:
                continue
            if changes.vectors and changes.model != self._embedder.name:
                self._drop(user)
            else:
                self._keep(user, cards.after(_changed(cards.snapshot, version, changes)))
            return result
        raise ConflictError(f"others wrote to this user's memory {TRIES} times in a row: try again")

    def add(self, user: str, rule: Preference, source: Source) -> Merged:
        """Add a rule: as a new card, or by putting a card about the same matter into its words."""
        vectors = self.embed([rule])

        def decide(cards: Cards) -> tuple[Changes | None, Merged]:
            changes, (merged,) = self.added(cards, user, [(rule, source)], vectors)
            return (changes if changes.cards else None), merged

        return self.change(user, decide)

    def embed(self, rules: Sequence[Preference]) -> NDArray[np.float32]:
        """Return the vectors of rules' notes, shape (rules, dimensions)."""
        return self._embedder.embed([note(rule) for rule in rules])

    def added(
        self, cards: Cards, user: str, rules: Sequence[tuple[Preference, Source]], vectors: NDArray[np.float32]
    ) -> tuple[Changes, tuple[Merged, ...]]:
        """Return what to write to add rules one after the other, and what becomes of each.

        Args:
            cards: the user's memory.
            user: whose.
            rules: each with where it was said.
            vectors: of their notes (``embed``).
        """
        found, written, new = [], dict[str, Card](), dict[str, NDArray[np.float32]]()
        for (rule, source), vector in zip(rules, vectors, strict=True):
            merged = merge(user, rule, source, vector, cards.active, cards.vectors, self._relate)
            found.append(merged)
            if not merged.changed:
                continue
            written |= {card.id: card for card in merged.changed}
            if merged.reworded:
                new[merged.card.id] = vector
            step = Changes(cards=merged.changed, vectors={**cards.unsaved, **new})
            cards = cards.after(_changed(cards.snapshot, cards.snapshot.version, step))
        return Changes(cards=list(written.values()), vectors=new, model=self._embedder.name), tuple(found)

    def cards(self, user: str) -> tuple[Card, ...]:
        """Return a user's active cards, oldest first."""
        return self.read(user).active

    def card(self, user: str, card: str) -> Card:
        """Return a card, active or superseded.

        Raises:
            InputError: this user has no such card.
        """
        return _find(self.read(user), card)

    def history(self, user: str, card: str) -> list[Card]:
        """Return the cards that a card took the place of, directly or not, oldest first, and the card itself."""
        return _history(self.read(user), card)

    def edit(self, user: str, card: str, *, condition: str | None = None, action: str | None = None) -> Card:
        """Put a card in other words; it stays the same card, with the old words in its history.

        Raises:
            InputError: no such active card, or a condition or action that no rule can have.
        """

        def decide(cards: Cards) -> tuple[Changes, Card]:
            old = _find_active(cards, card)
            words = {"condition": condition, "action": action}
            changed = old.rule.model_dump() | {name: text for name, text in words.items() if text is not None}
            try:
                rule = Preference.model_validate(changed | {"confidence": 1.0})
            except ValidationError as error:
                raise InputError(first_fault(error, "card")) from error
            now = utc_now()
            update = {"rule": rule, "is_global": is_global(rule.condition), "seen": now, "edited": True}
            new = old.model_copy(update=update)
            gone = old.model_copy(update={"id": new_id(), "superseded_by": old.id})
            vector = self._embedder.embed([new.note])[0]
            return Changes(cards=[new, gone], vectors={new.id: vector}, model=self._embedder.name), new

        return self.change(user, decide)

    def pin(self, user: str, card: str, pinned: bool = True) -> Card:
        """Pin a card, so that it is in every prompt, or unpin it.

        Raises:
            InputError: this user has no such active card.
        """

        def decide(cards: Cards) -> tuple[Changes, Card]:
            new = _find_active(cards, card).model_copy(update={"pinned": pinned})
            return Changes(cards=[new]), new

        return self.change(user, decide)

    def delete(self, user: str, card: str) -> Card:
        """Delete a card and the cards that it took the place of, for good; return it.

        Raises:
            InputError: this user has no such card.
            StoreError: it is deleted, but its bytes are still in a file that somebody reads: delete it again.
        """

        def decide(cards: Cards) -> tuple[Changes, Card]:
            gone = [old.id for old in _history(cards, card)]
            values = self._scrub(cards.snapshot.values, frozenset(gone)) if self._scrub else {}
            return Changes(deleted=gone, values=values), _find(cards, card)

        try:
            return self.change(user, decide)
        except InputError:
            self._store.forget()  # an earlier deletion may not have come so far
            raise

    def delete_user(self, user: str) -> bool:
        """Delete all that is known of a user, for good; say whether there was anything."""
        try:
            return self._store.delete_user(user)
        finally:
            self._drop(user)

    def users(self) -> Iterator[str]:
        """Yield the users of whom anything is stored."""
        return self._store.users()

    def export(self, user: str) -> dict[str, Any]:
        """Return all that is stored of a user, as JSON can hold it."""
        snapshot = self.read(user).snapshot
        return {
            "format": FORMAT,
            "user": user,
            "cards": [card.model_dump(mode="json") for card in snapshot.cards],
            "embedder": self._embedder.name,
            "vectors": {card: _pack(vector.astype("<f4").tobytes()) for card, vector in snapshot.vectors.items()},
            "values": {name: _pack(value) for name, value in snapshot.values.items()},
        }

    def load(self, record: Mapping[str, Any]) -> str:
        """Store what ``export`` returned, and return the user's id.

        Raises:
            InputError: it is no such record, its vectors are none of the embedding model that it names, or something is
                stored of that user already.
        """
        user, changes = _parse(record)
        if changes.vectors and changes.model == self._embedder.name:
            lengths = {len(vector) for vector in changes.vectors.values()}
            if lengths != {self._dimensions}:
                raise InputError(f"vectors: they are not as long as those of {changes.model}: export again")

        def decide(cards: Cards) -> tuple[Changes, None]:
            if cards.snapshot.version:
                raise InputError(f"user {user!r} is in this memory already: delete it first")
            return changes, None

        self.change(user, decide)
        return user

    @cached_property
    def _dimensions(self) -> int:
        return int(self._embedder.embed(["a text"]).shape[1])

    def _keep(self, user: str, cards: Cards) -> Cards:
        with self._lock:
            self._cached += _size(cards) - _size(self._cache.pop(user, None))
            self._cache[user] = cards
            while self._cached > CACHED_CARDS and len(self._cache) > 1:
                self._cached -= _size(self._cache.popitem(last=False)[1])
        return cards

    def _drop(self, user: str) -> None:
        with self._lock:
            self._cached -= _size(self._cache.pop(user, None))


def _size(cards: Cards | None) -> int:
    """Return what a user's memory counts in the cache; one without cards takes room, too."""
    return 1 + len(cards.snapshot.cards) if cards else 0


def _changed(snapshot: Snapshot, version: int, changes: Changes) -> Snapshot:
    """Return what a snapshot becomes by a write."""
    values = {name: value for name, value in {**snapshot.values, **changes.values}.items() if value is not None}
    if not (changes.cards or changes.deleted or changes.vectors):
        return replace(snapshot, version=version, values=values)
    cards = {card.id: card for card in snapshot.cards} | {card.id: card for card in changes.cards}
    vectors = {**snapshot.vectors, **changes.vectors}
    for gone in changes.deleted:
        cards.pop(gone, None)
        vectors.pop(gone, None)
    return Snapshot(version, tuple(cards[card] for card in sorted(cards)), vectors, values)


def _find(cards: Cards, card: str) -> Card:
    found = next((old for old in cards.snapshot.cards if old.id == card), None)
    if found is None:
        raise InputError(f"no card {card!r} of this user: list the cards to see their ids")
    return found


def _history(cards: Cards, card: str) -> list[Card]:
    chain, size = {_find(cards, card).id}, 0
    while len(chain) > size:
        size = len(chain)
        chain |= {old.id for old in cards.snapshot.cards if old.superseded_by in chain}
    found = [old for old in cards.snapshot.cards if old.id in chain]
    return sorted(found, key=lambda old: (old.is_active, old.seen, old.id))


def _find_active(cards: Cards, card: str) -> Card:
    found = _find(cards, card)
    if not found.is_active:
        raise InputError(f"card {card!r} is history: change {found.superseded_by!r}, which took its place")
    return found


def _pack(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _unpack(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _parse(record: Mapping[str, Any]) -> tuple[str, Changes]:
    """Check a record that ``export`` made."""
    if not isinstance(record, Mapping) or record.get("format") != FORMAT:
        raise InputError(f'format: this is no export of a memory, which has "format": "{FORMAT}"')
    try:
        user = record["user"]
        cards = [Card.model_validate_json(json.dumps(card)) for card in record["cards"]]
        vectors = {card: np.frombuffer(_unpack(text), "<f4") for card, text in record["vectors"].items()}
        values = {name: _unpack(text) for name, text in record["values"].items()}
        embedder = record["embedder"]
    except ValidationError as error:
        raise InputError(f"cards: {first_fault(error, 'card')}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"this export is damaged ({type(error).__name__}: {error}): export again") from error
    if not isinstance(embedder, str) or len({len(vector) for vector in vectors.values()}) > 1:
        raise InputError("vectors: they are not all of one length, or the embedder has no name: export again")
    if not all(np.isfinite(vector).all() for vector in vectors.values()):
        raise InputError("vectors: one holds what is no number: export again")
    ids = {card.id for card in cards}
    if len(ids) < len(cards) or any(card.user != user for card in cards) or not set(vectors) <= ids:
        raise InputError("cards: an id is there twice, a card is another user's, or a vector has no card")
    return user, Changes(cards=cards, vectors=vectors, model=embedder, values=values)
