"""The file: crashes, concurrency, deletion, damage, versions, a full disk, and odd ids."""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penchant import InputError
from penchant.errors import StoreError
from penchant.memory.memory import Memory
from penchant.memory.merge import new_card, new_id
from penchant.memory.migrations import MIGRATIONS
from penchant.memory.sqlite import APPLICATION, SQLiteStore
from penchant.memory.store import Changes, check_id
from tests.conftest import ROOT
from tests.memory.conftest import WordEmbedder, rule, source

WRITER = """
import sys
from pathlib import Path
from penchant.memory.memory import Memory
from penchant.memory.sqlite import SQLiteStore
from tests.memory.conftest import WordEmbedder, rule, source
memory = Memory(SQLiteStore(Path(sys.argv[1])), WordEmbedder())
for number in range(int(sys.argv[3])):
    memory.add("ann", rule(f"{sys.argv[2]} number {number}"), source(number))
    print(number, flush=True)
"""


DELETER = """
import sys
from pathlib import Path
from penchant.memory.memory import Memory
from penchant.memory.sqlite import SQLiteStore
from tests.memory.conftest import WordEmbedder
memory = Memory(SQLiteStore(Path(sys.argv[1])), WordEmbedder())
for card in sys.argv[2:]:
    memory.delete("ann", card)
"""


def start(script: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path), *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return start(WRITER, path, name, str(count))


def test_what_was_committed_survives_kill_9(store: SQLiteStore) -> None:
    for round_ in range(3):
        with writer(store.path, f"round{round_}", 100_000) as process:
            assert process.stdout
            seen = [int(process.stdout.readline()) for _ in range(15 + round_)]
            process.send_signal(signal.SIGKILL)
            seen += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        cards = store.read("ann", "words").cards
        kept = {card.rule.action for card in cards}
        assert {f"round{round_} number {number}" for number in seen} <= kept
        assert len(store.read("ann", "words").vectors) == len(cards)
    connection = sqlite3.connect(store.path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_processes_and_threads_that_write_at_once_lose_nothing(store: SQLiteStore) -> None:
    processes = [writer(store.path, f"process{number}", 25) for number in range(2)]
    memory = Memory(store, WordEmbedder())

    def work(name: str) -> None:
        for number in range(25):
            memory.add("ann", rule(f"{name} number {number}"), source(number))

    threads = [threading.Thread(target=work, args=(f"thread{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    kept = {card.rule.action for card in store.read("ann", "words").cards}
    writers = [*(f"process{number}" for number in range(2)), *(f"thread{number}" for number in range(3))]
    assert kept == {f"{name} number {number}" for name in writers for number in range(25)}


def test_cards_that_many_delete_while_others_write_are_gone(store: SQLiteStore) -> None:
    memory, faults = Memory(store, WordEmbedder()), list[Exception]()
    cards = [memory.add("ann", rule(f"old number {number}"), source(number)).card for number in range(40)]
    shares = [[card.id for card in cards[part:36:3]] for part in range(3)]

    def delete(share: list[str]) -> None:
        try:
            for card in share:
                memory.delete("ann", card)
        except Exception as error:
            faults.append(error)

    def write() -> None:
        try:
            for number in range(20):
                memory.add("ann", rule(f"thread number {number}"), source(number))
        except Exception as error:
            faults.append(error)

    processes = [writer(store.path, "process", 20), start(DELETER, store.path, *shares[0])]
    threads = [threading.Thread(target=delete, args=(share,)) for share in shares[1:]]
    threads.append(threading.Thread(target=write))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert faults == []
    kept = SQLiteStore(store.path).read("ann", "words")
    new = {f"{name} number {number}" for name in ("process", "thread") for number in range(20)}
    assert {card.rule.action for card in kept.cards} == new | {f"old number {number}" for number in range(36, 40)}
    assert set(kept.vectors) == {card.id for card in kept.cards}
    assert [card.id for card in cards[:36] if card.id.encode() in content(store.path)] == []
    assert store._connection().execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_nothing_of_a_deleted_user_or_card_is_left_in_the_files(store: SQLiteStore) -> None:
    memory = Memory(store, WordEmbedder())
    secret = memory.add("secret-user", rule("say xylophone"), source(0, text="zanzibar" * 700)).card
    memory.change("secret-user", lambda _: (Changes(values={"z": b"quartz-vector" * 500}), None))
    gone = memory.add("bob", rule("say marimba"), source(0, text="my gazebo")).card
    kept = memory.add("bob", rule("keep vibraphone"), source(1)).card
    vectors = [memory.read(user).vectors[0].astype("<f4").tobytes() for user in ("secret-user", "bob")]
    markers = [b"secret-user", b"xylophone", b"zanzibar", b"quartz-vector", b"marimba", b"gazebo", *vectors]
    markers += [secret.id.encode(), gone.id.encode()]
    assert all(marker in content(store.path) for marker in markers)
    memory.delete_user("secret-user")
    memory.delete("bob", gone.id)
    assert [marker for marker in markers if marker in content(store.path)] == []
    assert kept.id.encode() in content(store.path)


def test_moving_rows_between_pages_leaves_no_copies_of_deleted_users(store: SQLiteStore) -> None:
    rng = random.Random(1)
    marks: dict[str, list[bytes]] = {}
    versions: dict[str, int] = {}
    for step in range(700):
        user = f"user {rng.randrange(40)}"
        if user in marks and rng.random() < 0.12:
            store.delete_user(user)
            left = content(store.path)
            assert [mark for mark in marks.pop(user) if mark in left] == []
            del versions[user]
            continue
        mark = f"MARK{step:06x}{rng.getrandbits(40):010x}"
        said = source(0, text=mark * rng.choice([1, 2, 30, 300]))
        card = new_card(user, rule(f"{mark} " * rng.randint(1, 10)), said)
        vector = np.frombuffer((mark * 100)[:1536].encode(), "<f4")
        values = {rng.choice("abcd"): (mark * rng.choice([1, 20, 500])).encode()}
        changes = Changes(cards=[card], vectors={card.id: vector}, model="m", values=values)
        versions[user] = store.write(user, versions.get(user, 0), changes)
        marks.setdefault(user, []).append(mark.encode())


def content(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def test_deletion_waits_for_readers_and_says_so_if_they_stay(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    Memory(store, WordEmbedder()).add("ann", rule("use tabs"), source(0))
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM cards").fetchall()
    monkeypatch.setattr("penchant.memory.sqlite.PATIENCE", 0.05)
    with pytest.raises(StoreError, match="a reader keeps the log in use"):
        SQLiteStore(store.path).delete_user("ann")
    reader.close()
    assert not store.delete_user("ann")
    assert b"use tabs" not in content(store.path)


def test_a_card_whose_deletion_was_not_finished_can_be_deleted_again(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(store, WordEmbedder())
    card = memory.add("ann", rule("say xylophone"), source(0)).card
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM cards").fetchall()
    monkeypatch.setattr("penchant.memory.sqlite.PATIENCE", 0.05)
    with pytest.raises(StoreError, match="a reader keeps the log in use"):
        Memory(SQLiteStore(store.path), WordEmbedder()).delete("ann", card.id)
    reader.close()
    assert b"xylophone" in content(store.path)
    with pytest.raises(InputError, match="no card"):
        Memory(SQLiteStore(store.path), WordEmbedder()).delete("ann", card.id)
    assert b"xylophone" not in content(store.path)


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    for number in range(5):
        path, faults, barrier = tmp_path / f"{number}.db", list[Exception](), threading.Barrier(12)

        def work(path: Path = path, faults: list[Exception] = faults, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(60)
            try:
                SQLiteStore(path)
            except Exception as error:
                faults.append(error)

        threads = [threading.Thread(target=work) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []


def test_a_store_of_a_newer_version_is_left_alone(store: SQLiteStore) -> None:
    store.close()
    connection = sqlite3.connect(store.path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    before = store.path.read_bytes()
    with pytest.raises(StoreError, match="newer Penchant"):
        SQLiteStore(store.path)
    assert store.path.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        SQLiteStore(path)
    assert path.read_bytes() == before


def test_a_truncated_or_overwritten_file_is_an_error(store: SQLiteStore, tmp_path: Path) -> None:
    memory = Memory(store, WordEmbedder())
    for number in range(200):
        memory.add("ann", rule(f"rule number {number}"), source(number))
    store.delete_user("nobody")  # empties the log
    store.close()
    whole = store.path.read_bytes()
    for name, damaged in (
        ("half.db", whole[: len(whole) // 2]),
        ("page.db", whole[:4096]),
        ("noise.db", b"noise" * 5000),
        ("hole.db", whole[:8192] + b"\xff" * (len(whole) - 8192)),
    ):
        path = tmp_path / name
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"restore a copy|restore the file"):
            SQLiteStore(path).read("ann", "words")
    (tmp_path / "empty.db").write_bytes(b"")
    assert list(SQLiteStore(tmp_path / "empty.db").users()) == []  # as a new one


def test_a_file_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "memory.db")
    connection.executescript(MIGRATIONS[0])
    card = new_card("ann", rule("use tabs"), source(0))
    vector = np.ones(3, "<f4")
    connection.execute("INSERT INTO users VALUES (1, 'ann', 7)")
    connection.execute("INSERT INTO cards VALUES (1, ?, ?)", (card.id, card.model_dump_json()))
    connection.execute("INSERT INTO vectors VALUES (1, ?, 'm', ?)", (card.id, vector.tobytes()))
    connection.execute("PRAGMA user_version = 1")
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.commit()
    connection.close()
    store = SQLiteStore(tmp_path / "memory.db")
    found = store.read("ann", "m")
    assert (found.version, found.cards) == (7, (card,))
    assert np.array_equal(found.vectors[card.id], vector)
    assert store._connection().execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert store.count_vectors("m") == 1


def test_vectors_are_counted_without_reading_them(store: SQLiteStore) -> None:
    Memory(store, WordEmbedder()).add("ann", rule("use tabs"), source(0))
    asked: list[str] = []
    store._connection().set_trace_callback(asked.append)
    store.count_vectors("words")
    store.sample_vectors("words", 10)
    store._connection().set_trace_callback(None)
    counts = [statement for statement in asked if "COUNT" in statement]
    assert len(counts) == 2
    for statement in counts:
        plan = [row[3] for row in store._connection().execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert plan == ["SEARCH vectors USING COVERING INDEX vectors_by_model (model=?)"]


def test_a_full_disk_is_an_error_and_loses_nothing(store: SQLiteStore) -> None:
    memory = Memory(store, WordEmbedder())
    memory.add("ann", rule("use tabs"), source(0))
    before = store.read("ann", "words")
    pages = store._connection().execute("PRAGMA page_count").fetchone()[0]
    store._connection().execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="full: make room"):
        memory.change("ann", lambda _: (Changes(values={"z": b"x" * 100_000}), None))
    assert store.read("ann", "words").cards == before.cards
    assert memory.cards("ann") == before.cards
    store._connection().execute("PRAGMA max_page_count = 100000")
    memory.change("ann", lambda _: (Changes(values={"z": b"x" * 100_000}), None))
    assert len(store.read("ann", "words").values["z"]) == 100_000


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(StoreError, match=f"{folder}: cannot make this folder"):
            SQLiteStore(folder / "memory.db")


def test_a_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(StoreError, match=str(path)):
            SQLiteStore(path)


def test_ids_that_cannot_be(store: SQLiteStore) -> None:
    for user, message in (
        ("", "not empty"),
        ("  ", "not empty"),
        ("x" * 513, "513 characters"),
        ("a\0b", "null character"),
        ("\ud800", "lone surrogate"),
    ):
        for act in (store.version, store.delete_user, lambda user: store.write(user, 0, Changes())):
            with pytest.raises(InputError, match=message):
                act(user)
    with pytest.raises(InputError, match="not empty"):
        check_id(None)  # type: ignore[arg-type]
    assert list(store.users()) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), unique=True))
def test_every_other_id_is_a_user_of_its_own(tmp_path: Path, users: list[str]) -> None:
    users = [user for user in users if user.strip()] + ["../../etc/passwd", "'; DROP TABLE users; --", "%", "_"]
    path = tmp_path / "ids"
    shutil.rmtree(path, ignore_errors=True)
    store = SQLiteStore(path / "memory.db")
    for number, user in enumerate(dict.fromkeys(users)):
        card = new_card(user, rule(f"do {number}"), source(0))
        store.write(user, 0, Changes(cards=[card], vectors={card.id: np.ones(4, np.float32)}, model="m"))
    assert list(store.users()) == sorted(set(users), key=lambda user: user.encode())
    for number, user in enumerate(dict.fromkeys(users)):
        (card,) = store.read(user, "m").cards
        assert (card.user, card.rule.action) == (user, f"do {number}")
    store.close()


def test_ten_thousand_cards_of_one_user(store: SQLiteStore) -> None:
    cards = [new_card("ann", rule(f"do {number}"), source(0)) for number in range(10_000)]
    vectors = {card.id: np.full(8, number, np.float32) for number, card in enumerate(cards)}
    version = store.write("ann", 0, Changes(cards=cards, vectors=vectors, model="m"))
    found = store.read("ann", "m")
    assert (found.version, len(found.cards), len(found.vectors)) == (version, 10_000, 10_000)
    assert [card.id for card in found.cards] == sorted(card.id for card in cards)


def test_connections_of_threads_that_have_ended_are_closed(store: SQLiteStore) -> None:
    store.version("ann")
    for _ in range(30):
        thread = threading.Thread(target=store.version, args=("ann",))
        thread.start()
        thread.join()
    gc.collect()
    assert len(store._opened) == 1
    store.close()
    assert store.version("ann") == 0  # it opens again


def test_a_sample_is_spread_over_users(store: SQLiteStore) -> None:
    assert store.sample_vectors("m", 10).shape == (0,)
    for user in range(5):
        cards = [new_card(f"u{user}", rule(f"do {number}"), source(0)) for number in range(20)]
        vectors = {card.id: np.full(3, user, np.float32) for card in cards}
        store.write(f"u{user}", 0, Changes(cards=cards, vectors=vectors, model="m"))
    sample = store.sample_vectors("m", 10)
    assert store.count_vectors("m") == 100
    assert sample.shape == (10, 3)
    assert set(sample[:, 0]) == set(range(5))
    assert np.array_equal(sample, store.sample_vectors("m", 10))
    assert store.sample_vectors("other", 10).size == 0


def test_shared_values(store: SQLiteStore) -> None:
    assert store.shared("space") is None
    assert store.share("space", b"one", None)
    assert store.share("space", b"two", b"one")
    assert not store.share("space", b"three", b"one")
    assert SQLiteStore(store.path).shared("space") == b"two"
    assert list(store.users()) == []
    memory = Memory(store, WordEmbedder())
    for user in ("ann", "bob"):
        memory.add(user, rule("use tabs"), source(0))
    memory.delete_user("ann")
    assert store.shared("space") == b"two"
    memory.delete_user("bob")  # they are made of users' vectors
    assert store.shared("space") is None


def test_ids_sort_by_time() -> None:
    first = new_id()
    made = [new_id() for _ in range(1000)]
    assert [first, *made] == sorted({first, *made})


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_opens_its_own_connection(store: SQLiteStore) -> None:
    Memory(store, WordEmbedder()).add("ann", rule("use tabs"), source(0))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            Memory(store, WordEmbedder()).add("ann", rule("use two"), source(1))
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(store.read("ann", "words").cards) == 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_what_a_forked_process_wrote_stays_though_its_parent_closes_first(store: SQLiteStore) -> None:
    """SQLite takes what the parent has open for the child's own, and the log would go with the parent's last one."""
    memory = Memory(store, WordEmbedder())
    memory.add("ann", rule("use tabs"), source(0))
    (mine, parents), (theirs, childs) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            memory.add("bob", rule("use 0"), source(0))
            os.write(childs, b"x")
            os.read(mine, 1)
            for turn in range(1, 20):
                memory.add("bob", rule(f"use {turn}"), source(turn))
            status = 0
        finally:
            os._exit(status)  # without closing anything, as a process that is killed
    os.read(theirs, 1)
    store.close()
    other = Memory(SQLiteStore(store.path), WordEmbedder())
    other.add("cyd", rule("use a"), source(0))
    os.write(parents, b"x")
    for turn in range(20):
        other.add("cyd", rule(f"use {turn} more"), source(turn))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    kept = SQLiteStore(store.path)
    assert [len(kept.read(user, "words").cards) for user in ("ann", "bob", "cyd")] == [1, 20, 21]


def test_a_store_that_a_newer_penchant_has_migrated_meanwhile_is_not_written(store: SQLiteStore) -> None:
    memory = Memory(store, WordEmbedder())
    memory.add("ann", rule("use tabs"), source(0))
    newer = sqlite3.connect(store.path, isolation_level=None)
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    for change in (lambda: memory.add("ann", rule("be brief"), source(1)), lambda: memory.delete_user("ann")):
        with pytest.raises(StoreError, match="newer Penchant"):
            change()
    assert len(memory.cards("ann")) == 1


@pytest.mark.skipif(os.name == "nt", reason="modes are of POSIX")
def test_nobody_else_may_read_a_new_memory(store: SQLiteStore) -> None:
    Memory(store, WordEmbedder()).add("ann", rule("use tabs"), source(0))
    assert {file.stat().st_mode & 0o777 for file in store.path.parent.iterdir()} == {0o600}
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
