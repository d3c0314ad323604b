"""Which windows a mix keeps and where they go, decided by a few facts about each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penchant.data.deduplicate import fingerprint, label, reading
from penchant.data.mix_report import MixSettings
from penchant.errors import InputError
from penchant.types import LabelledWindow

_MADE_OF_SEVERAL = ("joined", "several")
"""First tags of synthesised windows that hold more than one window or wish."""

_TRUST = {"annotator": 0, "teacher": 1, "recovered": 1, "synthesis": 2}


@dataclass(frozen=True, slots=True)
class Entry:
    """What is decided by about a window: small, while the window itself (``number``) is on disk.

    ``trust`` is lower the more its labeller is believed. The bytes are hashes: equal ones mean the same text that a
    model reads, the same rules, the same conversation; ``lot`` is as good as random, but the same in every run.
    ``pieces`` are the user's turns and, of a synthesised window, the rules: by them, what a window that
    ``is_made_of_several`` was made of is known.
    """

    number: int
    part: int
    trust: int
    is_positive: bool
    text: bytes
    label: bytes
    conversation: bytes
    lot: bytes
    is_made_of_several: bool
    pieces: tuple[bytes, ...]

    @classmethod
    def of(cls, window: LabelledWindow, number: int, part: int, seed: int) -> Entry:
        """Note what matters of a window.

        Raises:
            InputError: no user turn with any text that a model could read.
        """
        try:
            text = reading(window.turns)
        except InputError as error:
            raise InputError(f"window {window.id}: {error}") from error
        is_synthesised = window.labeller == "synthesis"
        pieces = [("turn", turn.content) for turn in window.turns if turn.role == "user"]
        if is_synthesised:
            pieces += [(rule.condition, rule.action) for rule in window.rules]
        alone = "" if window.conversation else window.id
        return cls(
            number=number,
            part=part,
            trust=_TRUST[window.labeller],
            is_positive=window.is_positive,
            text=fingerprint(text),
            label=label(window),
            conversation=fingerprint("conversation", seed, window.source, window.conversation, alone),
            lot=fingerprint("window", seed, window.id),
            is_made_of_several=is_synthesised and next(iter(window.tags), "") in _MADE_OF_SEVERAL,
            pieces=tuple(fingerprint(*piece) for piece in pieces),
        )

    @property
    def chance(self) -> tuple[bytes, bytes]:
        """The order in which windows are chosen."""
        return self.lot[:8], self.text

    @property
    def place(self) -> tuple[bytes, bytes]:
        """The order in which windows are written, which has nothing to do with ``chance``."""
        return self.lot[8:], self.text


def by_trust(entries: Iterable[Entry]) -> list[Entry]:
    """Order windows by whose label is kept among duplicates: the most trusted labeller's, then the first."""
    return sorted(entries, key=lambda entry: (entry.trust, entry.number))


def unique(entries: Iterable[Entry]) -> dict[bytes, Entry]:
    """Return the window to keep for each text."""
    kept: dict[bytes, Entry] = {}
    for entry in by_trust(entries):
        kept.setdefault(entry.text, entry)
    return kept


def balance(entries: Sequence[Entry], settings: MixSettings) -> list[Entry]:
    """Choose the largest mix of which ``positive_share``, rounded, has a rule; each part gives in proportion.

    What is chosen depends on the seed and the windows' ids, not on their order. A balanced mix stays as it is.

    Raises:
        InputError: there are too few windows of either kind for even one of each.
    """
    share = settings.positive_share
    positives = [entry for entry in entries if entry.is_positive]
    negatives = [entry for entry in entries if not entry.is_positive]
    total = min(settings.limit or len(entries), len(entries))
    while round(total * share) > len(positives) or total - round(total * share) > len(negatives):
        total -= 1
    wanted = round(total * share)
    if wanted in (0, total):
        raise InputError(
            f"{len(positives):,} windows with a preference and {len(negatives):,} without are left, too few of either "
            f"kind for a mix of {total:,} with a share of {share:g} positives: add windows or change the share"
        )
    return _draw(positives, wanted) + _draw(negatives, total - wanted)


def split(entries: Sequence[Entry], settings: MixSettings) -> tuple[list[Entry], list[Entry]]:
    """Return what to train on and what to evaluate with, conversation by conversation.

    What is made of several windows or wishes is trained on, and so is every conversation with one of these: else a
    window would be on one side and a chat that holds it on the other. Apart from that, with a share, a conversation
    stays where it is whatever is added.

    Raises:
        InputError: nothing is left to train on.
    """
    trained = _to_train_on(entries)
    sizes = Counter(entry.conversation for entry in entries if entry.conversation not in trained)
    if settings.evaluation_windows is None:
        border = int(settings.evaluation_share * 2**64).to_bytes(8, "big")
        chosen = {conversation for conversation in sizes if conversation[:8] < border}
    else:
        chosen = set()
        room = settings.evaluation_windows
        for conversation in sorted(sizes):
            if sizes[conversation] <= room:
                chosen.add(conversation)
                room -= sizes[conversation]
    sides: tuple[list[Entry], list[Entry]] = ([], [])
    for entry in entries:
        sides[entry.conversation in chosen].append(entry)
    if not sides[0]:
        raise InputError("all windows would be in the evaluation split: lower its share or number, or add windows")
    return sides


def _to_train_on(entries: Sequence[Entry]) -> set[bytes]:
    """Return the conversations of windows that are made of several, and of what these are made of."""
    pieces = {piece for entry in entries if entry.is_made_of_several for piece in entry.pieces}
    return {entry.conversation for entry in entries if entry.is_made_of_several or not pieces.isdisjoint(entry.pieces)}


def _draw(entries: Sequence[Entry], count: int) -> list[Entry]:
    """Choose ``count`` windows, from each part as many as its share of them."""
    by_part: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_part[entry.part].append(entry)
    quotas = {part: divmod(count * len(members), len(entries)) for part, members in by_part.items()}
    rest = count - sum(whole for whole, _ in quotas.values())
    rounded_up = set(sorted(quotas, key=lambda part: (-quotas[part][1], part))[:rest])
    return [
        entry
        for part, members in by_part.items()
        for entry in sorted(members, key=lambda entry: entry.chance)[: quotas[part][0] + (part in rounded_up)]
    ]
