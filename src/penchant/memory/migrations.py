"""The tables of the SQLite store, as steps from one version to the next; a step that was released is never changed."""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE users (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        version INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE cards (
        user INTEGER NOT NULL REFERENCES users (key) ON DELETE CASCADE,
        id TEXT NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (user, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE vectors (
        user INTEGER NOT NULL,
        card TEXT NOT NULL,
        model TEXT NOT NULL,
        vector BLOB NOT NULL,
        PRIMARY KEY (user, card, model),
        FOREIGN KEY (user, card) REFERENCES cards (user, id) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE user_values (
        user INTEGER NOT NULL REFERENCES users (key) ON DELETE CASCADE,
        name TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (user, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE shared_values (
        name TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    # the vectors table holds the vectors themselves, so that counting those of a model would read all of them
    """
    CREATE INDEX vectors_by_model ON vectors (model, user);
    """,
)
