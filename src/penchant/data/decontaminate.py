"""Which windows hold text of an evaluation set: shared n-grams of user turns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from penchant.data.deduplicate import normalise, runs, tokenise
from penchant.errors import InputError
from penchant.types import Turn, Window

_EDGE = re.compile(r"^\W+|\W+$")


@dataclass(frozen=True)
class Overlap:
    """A window, by its number, that shares n-grams with an evaluation set, and the first of them."""

    window: int
    evaluation_set: str
    ngram: str


@dataclass(frozen=True)
class Overlaps:
    """What windows share with evaluation sets, and the shared n-grams that do not count because they are common."""

    found: tuple[Overlap, ...]
    common: frozenset[str]


def user_ngrams(turns: Iterable[Turn], ngram: int) -> set[str]:
    """Return the n-grams of the user turns, without case and punctuation.

    A turn of ``ngram`` words or more gives its runs of that many words. A shorter one of at least half as many
    gives itself, which only a turn of the same words can match. In a script without spaces two characters count
    as a word.
    """
    found: set[str] = set()
    for turn in turns:
        if turn.role == "user":
            tokens, is_unspaced = tokenise(normalise(turn.content))
            words = [word for token in tokens if (word := _EDGE.sub("", token))]
            length = 2 * ngram if is_unspaced else ngram
            if len(words) >= length:
                found |= runs(words, length)
            elif 2 * len(words) >= length:
                found.add(" ".join(words))
    return found


def index_evaluation_sets(evaluation_sets: Mapping[str, Iterable[Window]], ngram: int) -> dict[str, frozenset[str]]:
    """Return the n-grams of the user turns of each set.

    Raises:
        InputError: a set without a window, which would clear every text.
    """
    index = {}
    for name, windows in evaluation_sets.items():
        count, found = 0, set()
        for count, window in enumerate(windows, 1):  # noqa: B007 - how many there were
            found |= user_ngrams(window.turns, ngram)
        if not count:
            raise InputError(f"the evaluation set {name} holds no window: give the file that is to be kept out")
        index[name] = frozenset(found)
    return index


def find_overlaps(
    windows: Iterable[tuple[int, Sequence[Turn]]],
    index: Mapping[str, frozenset[str]],
    ngram: int,
    common_share: float,
    common_windows: int,
) -> Overlaps:
    """Find the windows that share n-grams with evaluation sets, leaving out common n-grams.

    An n-gram is common, and says nothing, when at least ``common_windows`` windows and more than
    ``common_share`` of them have it: "as an ai language model you must", say.
    """
    shared: list[tuple[int, set[str]]] = []
    known = frozenset[str]().union(*index.values())
    total = 0
    for number, turns in windows:
        total += 1
        if ngrams := user_ngrams(turns, ngram) & known:
            shared.append((number, ngrams))
    counts = Counter(each for _, ngrams in shared for each in ngrams)
    common = frozenset(
        each for each, count in counts.items() if count >= common_windows and count > common_share * total
    )
    found = (
        Overlap(number, name, min(telling))
        for number, ngrams in shared
        for name, of_set in index.items()
        if (telling := (ngrams & of_set) - common)
    )
    return Overlaps(tuple(found), common)
