"""Which windows say the same: exact duplicates by hash, near duplicates by MinHash."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from datasketch import MinHash, MinHashLSH

from penchant.extract.window import render_window
from penchant.text import clean_text
from penchant.types import LabelledWindow, Turn

PERMUTATIONS = 128
"""Hashes in a MinHash: the similarity it estimates has a standard error of at most 0.045."""

_WORD_SHINGLE = 3
_CHARACTER_SHINGLE = 5
_RECALL = (0.2, 0.8)  # a false candidate costs one comparison, a missed one stays in the mix
# Thai and Lao, Myanmar, Khmer, kana, Han: scripts that put no spaces between words
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def normalise(text: str) -> str:
    """Fold what does not change what a text says: letter case, width and white space."""
    return " ".join(unicodedata.normalize("NFKC", clean_text(text)).casefold().split())


def tokenise(normal: str) -> tuple[list[str], bool]:
    """Split a normalised text at spaces, and around each character of a script without them.

    Returns:
        The tokens, and whether most of them are such characters.
    """
    spaced, unspaced = _UNSPACED.subn(r" \g<0> ", normal)
    tokens = spaced.split()
    return tokens, 2 * unspaced > len(tokens)


def reading(turns: Sequence[Turn]) -> str:
    """Return the normalised text that the model reads: windows with the same one are exact duplicates.

    Raises:
        InputError: no user turn with any text.
    """
    return normalise(render_window(turns))


def fingerprint(*values: object) -> bytes:
    """Hash JSON values to 16 bytes, the same ones in every process."""
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=16).digest()


def label(window: LabelledWindow) -> bytes:
    """Hash what the window's rules say: their wording, whatever their order, confidence, case and spacing."""
    return fingerprint(sorted({(normalise(rule.condition), normalise(rule.action)) for rule in window.rules}))


class NearDuplicates:
    """Texts of windows that have the same label, each compared with those before it.

    Only windows of the same ``label`` may be shown to one of these. Synthesised windows share long stretches of
    text and differ in the wish, and contrastive twins ("use tabs" / "use spaces") differ in a word: whatever their
    likeness, they teach different answers and none of them is a duplicate.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._index = MinHashLSH(num_perm=PERMUTATIONS, params=_bands(threshold))
        self._kept: list[np.ndarray] = []

    def is_one(self, text: str) -> bool:
        """Say whether a ``reading`` is like one before it; remember it if not.

        Like means: the Jaccard similarity of their shingles (3 words, or 5 characters of a script without spaces),
        as MinHash estimates it, reaches the threshold.
        """
        sketch = MinHash(PERMUTATIONS, permutations=_plain().permutations, scheme=_plain().scheme)
        sketch.update_batch([shingle.encode() for shingle in shingles(text)])
        candidates = [self._kept[number] for number in self._index.query(sketch)]
        if candidates and np.mean(np.stack(candidates) == sketch.hashvalues, axis=1).max() >= self._threshold:
            return True
        self._index.insert(len(self._kept), sketch)
        self._kept.append(sketch.hashvalues)
        return False


def shingles(text: str) -> set[str]:
    """Return the runs of 3 tokens of a normalised text (5 in a script without spaces); of a shorter one, itself."""
    tokens, is_unspaced = tokenise(text)
    return runs(tokens, _CHARACTER_SHINGLE if is_unspaced else _WORD_SHINGLE) or {" ".join(tokens)}


def runs(tokens: Sequence[str], length: int) -> set[str]:
    """Return all runs of ``length`` tokens, joined by spaces."""
    return {" ".join(tokens[start : start + length]) for start in range(len(tokens) - length + 1)}


@functools.cache
def _plain() -> MinHash:
    """Return a MinHash whose permutations the others share: drawing them takes longer than using them."""
    return MinHash(PERMUTATIONS)


@functools.cache
def _bands(threshold: float) -> tuple[int, int]:
    index = MinHashLSH(threshold, PERMUTATIONS, _RECALL)
    return index.b, index.r
