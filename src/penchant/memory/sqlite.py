"""The store in one SQLite file: write-ahead log, foreign keys, ordered migrations, and deleted bytes gone for good."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from penchant.errors import InputError, StoreError
from penchant.forks import after_fork
from penchant.memory.migrations import MIGRATIONS
from penchant.memory.store import Changes, ConflictError, Snapshot, check_id, share_out
from penchant.types import Card

APPLICATION = 0x50656E63
"""Marks the file as ours (``PRAGMA application_id``): "Penc"."""

PATIENCE = 60.0
"""Seconds to wait for other writers: a deletion in a file of some gigabytes takes most of them."""


class _Connection(sqlite3.Connection):
    """A connection that is closed when nobody has it any longer."""

    def __del__(self) -> None:
        with suppress(sqlite3.ProgrammingError):  # it was never opened
            self.close()


class SQLiteStore:
    """A store in one file; may be shared between threads, and the file between processes.

    What ``write`` has written survives the process, whatever ends it; a power cut may take the last writes, whole. A
    forked process opens connections of its own.

    Args:
        path: the file; it and its folder are made on first use.

    Raises:
        StoreError: the file cannot be opened, is not a memory, is damaged, or was written by a newer Penchant.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._opened: weakref.WeakSet[_Connection] = weakref.WeakSet()  # those of threads that have ended are closed
        self._lock = threading.Lock()
        after_fork(self._forked)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds users' words: nobody else reads them
        except OSError as error:
            raise StoreError(f"{path.parent}: cannot make this folder ({error.strerror})") from error
        with suppress(OSError):  # one that is there keeps its mode, and SQLite says what is wrong with a path
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with self._translate():
            self._migrate(self._connection())

    def version(self, user: str) -> int:
        """Return the version of a user's memory, or 0."""
        check_id(user)
        with self._translate():
            row = self._connection().execute("SELECT version FROM users WHERE id = ?", (user,)).fetchone()
        return row[0] if row else 0

    def read(self, user: str, model: str) -> Snapshot:
        """Return a user's memory at one moment."""
        check_id(user)
        with self._translate(), self._transaction("DEFERRED") as connection:
            found = connection.execute("SELECT key, version FROM users WHERE id = ?", (user,)).fetchone()
            if not found:
                return Snapshot()
            key, version = found
            bodies = connection.execute("SELECT body FROM cards WHERE user = ? ORDER BY id", (key,)).fetchall()
            vectors = connection.execute(
                "SELECT card, vector FROM vectors WHERE user = ? AND model = ?", (key, model)
            ).fetchall()
            values = connection.execute("SELECT name, value FROM user_values WHERE user = ?", (key,)).fetchall()
        try:
            cards = tuple(Card.model_validate_json(body) for (body,) in bodies)
        except ValidationError as error:
            raise StoreError(
                f"{self.path}: a card of this user cannot be read: upgrade if a newer Penchant wrote it, else restore"
                " the file"
            ) from error
        return Snapshot(version, cards, {card: np.frombuffer(blob, "<f4") for card, blob in vectors}, dict(values))

    def write(self, user: str, version: int, changes: Changes) -> int:
        """Change a user's memory, all or nothing, and return its new version."""
        check_id(user)
        with self._translate(), self._writing() as connection:
            found = connection.execute("SELECT key, version FROM users WHERE id = ?", (user,)).fetchone()
            if (found[1] if found else 0) != version:
                raise ConflictError("another writer was faster: read again")
            if found:
                key, new = found[0], version + 1
                connection.execute("UPDATE users SET version = ? WHERE key = ?", (new, key))
            else:  # a deleted user who comes back must not have a version that somebody remembers
                new = secrets.randbits(62) | 1
                key = connection.execute("INSERT INTO users (id, version) VALUES (?, ?)", (user, new)).lastrowid
            connection.executemany(
                "DELETE FROM cards WHERE user = ? AND id = ?", [(key, card) for card in changes.deleted]
            )
            connection.executemany(
                "INSERT INTO cards (user, id, body) VALUES (?, ?, ?)"
                " ON CONFLICT (user, id) DO UPDATE SET body = excluded.body",
                [(key, card.id, card.model_dump_json()) for card in changes.cards],
            )
            connection.executemany(  # of a card with new words no model's vector is true any longer
                "DELETE FROM vectors WHERE user = ? AND card = ?",
                [(key, card.id) for card in changes.cards if card.id in changes.vectors],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO vectors (user, card, model, vector) VALUES (?, ?, ?, ?)",
                [
                    (key, card, changes.model, vector.astype("<f4").tobytes())
                    for card, vector in changes.vectors.items()
                ],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO user_values (user, name, value) VALUES (?, ?, ?)",
                [(key, name, value) for name, value in changes.values.items() if value is not None],
            )
            connection.executemany(
                "DELETE FROM user_values WHERE user = ? AND name = ?",
                [(key, name) for name, value in changes.values.items() if value is None],
            )
        if changes.deleted:
            self.forget()
        return int(new)

    def delete_user(self, user: str) -> bool:
        """Delete all that is stored of a user, beyond recovery from the file; say whether there was anything."""
        check_id(user)
        with self._translate(), self._writing() as connection:
            there = connection.execute("DELETE FROM users WHERE id = ?", (user,)).rowcount > 0
            connection.execute("DELETE FROM shared_values WHERE NOT EXISTS (SELECT 1 FROM users)")
        self.forget()
        return there

    def users(self) -> Iterator[str]:
        """Yield the ids of users, sorted."""
        last = ""
        while True:
            with self._translate():
                rows = self._connection().execute("SELECT id FROM users WHERE id > ? ORDER BY id LIMIT 500", (last,))
                found = [row[0] for row in rows]
            if not found:
                return
            yield from found
            last = found[-1]

    def count_vectors(self, model: str) -> int:
        """Return how many vectors there are."""
        with self._translate():
            row = self._connection().execute("SELECT COUNT(*) FROM vectors WHERE model = ?", (model,)).fetchone()
        return int(row[0])

    def sample_vectors(self, model: str, count: int) -> NDArray[np.float32]:
        """Return at most ``count`` vectors, as many of each user; the same ones as long as nothing changes."""
        with self._translate():
            connection = self._connection()
            query = "SELECT user, COUNT(*) FROM vectors WHERE model = ? GROUP BY user ORDER BY user"
            counts = dict(connection.execute(query, (model,)).fetchall())
            found: list[bytes] = []
            for key, quota in share_out(counts, count).items():
                rows = connection.execute(
                    "SELECT vector FROM vectors WHERE user = ? AND model = ? LIMIT ?", (key, model, quota)
                )
                found += [row[0] for row in rows]
        return np.array([np.frombuffer(blob, "<f4") for blob in found], np.float32)

    def shared(self, name: str) -> bytes | None:
        """Return a value that belongs to no user."""
        with self._translate():
            row = self._connection().execute("SELECT value FROM shared_values WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def share(self, name: str, value: bytes, before: bytes | None) -> bool:
        """Keep a value that belongs to no user, if it still is ``before``; say whether it was."""
        with self._translate(), self._writing() as connection:
            row = connection.execute("SELECT value FROM shared_values WHERE name = ?", (name,)).fetchone()
            if (row[0] if row else None) != before:
                return False
            connection.execute("INSERT OR REPLACE INTO shared_values (name, value) VALUES (?, ?)", (name, value))
            return True

    def close(self) -> None:
        """Close every connection; the store opens again when it is used again."""
        with self._lock:
            opened, self._opened = list(self._opened), weakref.WeakSet()
            self._local = threading.local()
        for connection in opened:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        found: _Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = sqlite3.connect(
                self.path, PATIENCE, isolation_level=None, check_same_thread=False, factory=_Connection
            )
            found.execute("PRAGMA foreign_keys = ON")
            found.execute("PRAGMA secure_delete = ON")
            found.execute("PRAGMA synchronous = NORMAL")  # in a write-ahead log, what is committed survives a crash
            self._local.connection = found
            with self._lock:
                self._opened.add(found)
        return found

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute(f"BEGIN {kind}")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk may have rolled back already
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Write to the tables as this version knows them: another process may have migrated them meanwhile."""
        with self._transaction("IMMEDIATE") as connection:
            self._refuse_newer(connection)
            yield connection

    def _refuse_newer(self, connection: sqlite3.Connection) -> int:
        """Return the version of the tables, which must not be newer than this program."""
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.path} was written by a newer Penchant (version {version} of the tables, this one knows"
                f" {len(MIGRATIONS)}): upgrade with pip install -U penchant"
            )
        return version

    def _forked(self) -> None:
        """Let go of the parent's connections: while they are open, SQLite takes its locks for this process's own."""
        inherited = list(self._opened)
        self._local, self._opened, self._lock = threading.local(), weakref.WeakSet(), threading.Lock()
        for connection in inherited:
            if connection.in_transaction:  # of another thread of the parent's: to close it would undo its changes
                _busy.append(connection)
            else:
                connection.close()

    @contextmanager
    def _translate(self) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError as error:
            raise InputError("this text holds a lone surrogate, which is no character: replace it") from error
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}{_remedy(str(error))}") from error

    def _migrate(self, connection: sqlite3.Connection) -> None:
        empty = not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        owner = connection.execute("PRAGMA application_id").fetchone()[0]  # second: another process may migrate now
        if owner != APPLICATION and not empty:
            raise StoreError(f"{self.path} is the database of another program: give another path")
        until = time.monotonic() + PATIENCE
        while empty:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:  # SQLite does not wait here for another that opens a new file
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.01)
        if connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS):
            return
        with self._transaction("IMMEDIATE"):  # one process migrates, the others find it done
            version = self._refuse_newer(connection)
            for number, script in enumerate(MIGRATIONS[version:], version + 1):
                for statement in filter(str.strip, script.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")

    def forget(self) -> None:
        """Rebuild the file and empty the write-ahead log: both still hold what was deleted.

        SQLite overwrites what it deletes, but not the copies that moving rows between pages has left. It takes about as
        long as copying the file, and as much room again.
        """
        until = time.monotonic() + PATIENCE
        try:
            with self._translate():
                self._connection().execute("VACUUM")
                while self._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    if time.monotonic() > until:
                        raise StoreError(f"{self.path}: a reader keeps the log in use")
                    time.sleep(0.01)
        except StoreError as error:
            raise StoreError(f"deleted, but the bytes are still there, so delete again: {error}") from error


_busy: list[_Connection] = []
"""Connections that the parent was writing with when this process was forked; they must not be closed here."""


def _remedy(message: str) -> str:
    remedies = {
        "disk is full": ": make room; nothing that was stored is lost",
        "not a database": ": it is damaged or no memory; restore a copy or give another path",
        "malformed": ": it is damaged; restore a copy or give another path",
        "locked": f": another program has held it for {PATIENCE:.0f} seconds; try again",
        "readonly": ": allow writing to it and to its folder",
        "unable to open": ": allow reading and writing there, or give another path",
    }
    return next((remedy for part, remedy in remedies.items() if part in message), "")
