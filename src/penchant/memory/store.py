"""What a store of memories must do; ``sqlite.py`` is the default.

A user's memory is read as one snapshot with a version, and changed by one write that names the version it was made
from: of two writers who saw the same version, the second is told, and starts again (``Memory`` does). So nothing is
half-written, no update is lost, and no lock is held while a model thinks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from penchant.errors import InputError, StoreError
from penchant.types import Card

ID_LIMIT = 512
"""Most characters of a user's id, and of a session's name."""


class ConflictError(StoreError):
    """Another writer was faster: read again."""


@dataclass(frozen=True)
class Snapshot:
    """All that is stored of a user, at one moment.

    Args:
        version: 0 for a user of whom nothing is stored.
        cards: the active and the superseded, in the order of their ids: active ones as they came.
        vectors: of the embedding model asked for, by the card's id, shape (dimensions,) each; some may be missing.
        values: what else is kept of the user, such as learned vectors, by name.
    """

    version: int = 0
    cards: tuple[Card, ...] = ()
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    values: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Changes:
    """What to write, all or nothing.

    Args:
        cards: new ones, or new states of old ones.
        vectors: of the embedding model ``model``, by the card's id; of a card that is also in ``cards``, every other
            model's vector goes.
        model: its name.
        deleted: ids of cards that shall be gone for good, with their vectors.
        values: by name; None deletes.
    """

    cards: Sequence[Card] = ()
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    model: str = ""
    deleted: Sequence[str] = ()
    values: Mapping[str, bytes | None] = field(default_factory=dict)


_Key = TypeVar("_Key")


def share_out(counts: Mapping[_Key, int], total: int) -> dict[_Key, int]:
    """Return how many of each owner's things to take for so many in all: as many of each, as far as they have them.

    Owners of whom none is taken are left out; the same ones always are.
    """
    owners = list(counts)
    owners = [owners[place] for place in np.random.default_rng(0).permutation(len(owners))]
    taken = dict.fromkeys(owners, 0)
    left = min(total, sum(counts.values()))
    while left:
        open_ = [owner for owner in owners if counts[owner] > taken[owner]]
        each = max(1, left // len(open_))
        for owner in open_:
            more = min(each, counts[owner] - taken[owner], left)
            taken[owner] += more
            left -= more
    return {owner: count for owner, count in taken.items() if count}


def check_id(name: str, kind: str = "user") -> str:
    """Return a user's or a session's id if it can be one.

    Raises:
        InputError: it is empty, too long, or holds a null character or a lone surrogate.
    """
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{kind}: give an id that is not empty")
    if len(name) > ID_LIMIT:
        raise InputError(f"{kind}: this id has {len(name):,} characters, and at most {ID_LIMIT} are allowed")
    if "\0" in name:
        raise InputError(f"{kind}: this id holds a null character, which is not allowed")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{kind}: this id holds a lone surrogate, which is no character: replace it") from error
    return name


class Store(Protocol):
    """Keeps users' memories. Every method may be called from any thread, and raises StoreError if it cannot do it.

    An id that no user can have (``check_id``) is an InputError.
    """

    def version(self, user: str) -> int:
        """Return the version of a user's memory; it differs from every earlier one. 0: nothing is stored."""

    def read(self, user: str, model: str) -> Snapshot:
        """Return a user's memory, with the vectors of this embedding model."""

    def write(self, user: str, version: int, changes: Changes) -> int:
        """Change a user's memory and return its new version.

        Raises:
            ConflictError: the memory is no longer of this version; nothing was written.
        """

    def delete_user(self, user: str) -> bool:
        """Delete all that is stored of a user, beyond recovery; say whether there was anything.

        With the last user, shared values go too.
        """

    def users(self) -> Iterator[str]:
        """Yield the users of whom anything is stored, in order of their ids."""

    def count_vectors(self, model: str) -> int:
        """Return how many vectors of any users' cards there are."""

    def sample_vectors(self, model: str, count: int) -> NDArray[np.float32]:
        """Return at most so many vectors of any users' cards, shape (vectors, dimensions), spread over the store."""

    def shared(self, name: str) -> bytes | None:
        """Return a value that belongs to no user."""

    def share(self, name: str, value: bytes, before: bytes | None) -> bool:
        """Keep a value that belongs to no user, if it still is ``before``; say whether it was."""

    def forget(self) -> None:
        """Take what was deleted out of the store beyond recovery; every deletion does it itself, as its last step."""

    def close(self) -> None:
        """Let go of the file or the server."""
