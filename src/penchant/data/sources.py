"""Sources of dialogues -> windows with their provenance, as a stream; all that is kept of it is the windows' ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path

from penchant.data.records import read_windows
from penchant.data.source_files import hub_files, local_files, read_rows
from penchant.data.source_formats import SOURCES, UNKNOWN_LANGUAGE, Conversation, Source
from penchant.errors import InputError
from penchant.extract.reader import read_dialogues
from penchant.extract.window import select_window
from penchant.text import clean_text
from penchant.types import Window

LABELLED = "labelled"
"""The source whose windows are records of docs/annotation.md, taken as they are."""

DIALOGUES = "dialogues"
"""The source that is any file ``penchant extract`` reads."""

NAMES = (*SOURCES, LABELLED, DIALOGUES)
"""All sources."""

_HEAD = 100
"""If none of so many first rows can be read, the file is wrong and not the rows."""

Windows = tuple[Window, ...]
"""The windows of one conversation."""


class WindowStream:
    """The windows of a source in its order, and an error in place of each row that cannot be read.

    The counts stand for what has been yielded so far: conversations that were read (``skipped``: those of them
    without user text), windows, and rows that are ``malformed``.
    """

    def __init__(self, conversations: Iterator[Windows | InputError]) -> None:
        self._conversations = conversations
        self.conversations = self.skipped = self.windows = self.malformed = 0

    def __iter__(self) -> Iterator[Window | InputError]:
        """Yield windows and errors."""
        for windows in self._conversations:
            if isinstance(windows, InputError):
                self.malformed += 1
                yield windows
                continue
            self.conversations += 1
            self.skipped += not windows
            for window in windows:
                self.windows += 1
                yield window


def open_source(
    name: str,
    path: Path | None = None,
    *,
    windows_per_conversation: int = 1,
    seed: int = 0,
    licence: str | None = None,
) -> WindowStream:
    """Open a source and read its first rows.

    Args:
        name: one of ``NAMES``.
        path: a file, or for one of ``SOURCES`` also a folder with its files; None: the hub.
        windows_per_conversation: most windows of one row; each ends at another user turn. Which ones is decided by
            a hash of seed, source, conversation and turn, whatever else is in the source.
        seed: another seed, another choice.
        licence: the licence of ``DIALOGUES``; all other sources have their own.

    Raises:
        InputError: no such source; its files are absent, not accessible or empty; none of the first rows can be read.
    """
    if name not in NAMES:
        raise InputError(f"no source {name!r}: there is {', '.join(NAMES)}")
    if bool(licence) is not (name == DIALOGUES):
        raise InputError(f"{name}: give the licence of {DIALOGUES}, and of no other source, by --licence")
    if windows_per_conversation < 1:
        raise InputError(f"windows_per_conversation is {windows_per_conversation}: it must be at least 1")
    where = f"{name}: {path or 'the hub'}"
    if name == LABELLED:
        return WindowStream(_checked(_labelled(_one_file(name, path)), where))
    conversations = _dialogues(_one_file(name, path)) if name == DIALOGUES else _published(SOURCES[name], path)
    cutter = _Cutter(name, licence or SOURCES[name].licence, windows_per_conversation, seed)
    return WindowStream(_checked(map(cutter.cut, conversations), where))


@dataclass(frozen=True)
class _Cutter:
    """Cuts the windows of conversations."""

    source: str
    licence: str
    count: int
    seed: int
    _seen: Counter[str] = field(default_factory=Counter, init=False)

    def cut(self, conversation: Conversation | InputError) -> Windows | InputError:
        if isinstance(conversation, InputError):
            return conversation
        name = clean_text(conversation.id)
        turns = [turn for _, turn in conversation.turns]
        ends = [
            (index, position)
            for position, (index, turn) in enumerate(conversation.turns, 1)
            if turn.role == "user" and clean_text(turn.content).strip()
        ]
        chosen = sorted(sorted(ends, key=lambda end: self._rank(name, end[0]))[: self.count])
        return tuple(
            Window(
                id=self._fresh(f"{self.source}/{name}/{index}"),
                turns=tuple(select_window(turns[:position])),
                language=clean_text(conversation.language),
                source=self.source,
                conversation=name,
                turn=index,
                licence=self.licence,
            )
            for index, position in chosen
        )

    def _rank(self, conversation: str, turn: int) -> bytes:
        return blake2b(f"{self.seed}/{self.source}/{conversation}/{turn}".encode(), digest_size=8).digest()

    def _fresh(self, key: str) -> str:
        """Tell apart the windows of rows with the same name: WildChat's is a hash of a text, and texts recur."""
        self._seen[key] += 1
        return key if self._seen[key] == 1 else f"{key}#{self._seen[key]}"


def _checked(conversations: Iterator[Windows | InputError], where: str) -> Iterator[Windows | InputError]:
    """Read ahead, so that a source of which nothing can be read is an error and not a stream of them."""
    head = list(islice(conversations, _HEAD))
    errors = [item for item in head if isinstance(item, InputError)]
    if not head:
        raise InputError(f"{where} is empty: there are no rows in it")
    if len(errors) == len(head):
        raise errors[0]
    return chain(head, conversations)


def _published(source: Source, path: Path | None) -> Iterator[Conversation | InputError]:
    for file in local_files(source, path) if path else hub_files(source):
        for number, row in read_rows(file, source.columns):
            yield _read_row(source, file, number, row)


def _read_row(source: Source, file: str, number: int, row: object) -> Conversation | InputError:
    try:
        if isinstance(row, InputError):
            raise row
        if not isinstance(row, Mapping):
            raise InputError(f"a row must be an object, not {type(row).__name__}")
        return source.read(row, number)
    except InputError as error:
        return InputError(f"{source.name}: {file}:{number}: {error}")


def _one_file(name: str, path: Path | None) -> Path:
    if path is None or not path.is_file():
        raise InputError(
            f"{name}: {f'no such file: {path}' if path else 'it is not on the hub'}: give a file by --path"
        )
    return path


def _labelled(path: Path) -> Iterator[Windows | InputError]:
    ours = {"source": LABELLED, "licence": "Apache-2.0"}
    try:
        for window in read_windows(path, Window):
            if isinstance(window, InputError):
                yield window
            else:
                missing = ours.keys() - window.model_fields_set
                yield (window.model_copy(update={key: ours[key] for key in missing}),)
    except InputError as error:  # the rest of the file cannot be read
        yield error


def _dialogues(path: Path) -> Iterator[Conversation | InputError]:
    with path.open("rb", buffering=0) as stream:
        try:
            for dialogue in read_dialogues(stream, path.name):
                if dialogue.error:
                    yield InputError(f"{DIALOGUES}: {path}: {dialogue.error}")
                else:
                    yield Conversation(dialogue.id, UNKNOWN_LANGUAGE, dialogue.turns)
        except InputError as error:  # the rest of the file cannot be read
            yield InputError(f"{DIALOGUES}: {error}")
