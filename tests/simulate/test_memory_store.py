"""The store without a file keeps the promises of the one that has one."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from penchant import InputError
from penchant.errors import StoreError
from penchant.memory.memory import Memory
from penchant.memory.merge import new_card
from penchant.memory.sqlite import SQLiteStore
from penchant.memory.store import Changes, ConflictError, Snapshot, Store
from penchant.testing import MemoryStore
from tests.memory.conftest import WordEmbedder, rule, source


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "memory.db")


def cards(count: int, user: str = "ann") -> list:
    return [new_card(user, rule(f"do {number}"), source(number)) for number in range(count)]


def test_what_is_written_is_read(store: Store) -> None:
    assert (store.version("ann"), store.read("ann", "m")) == (0, Snapshot())
    first, second = cards(2)
    vectors = {first.id: np.ones(3, np.float32), second.id: np.zeros(3, np.float32)}
    version = store.write("ann", 0, Changes(cards=[second, first], vectors=vectors, model="m", values={"z": b"1"}))
    found = store.read("ann", "m")
    assert version == found.version == store.version("ann") != 0
    assert found.cards == (first, second)
    assert {card: vector.tolist() for card, vector in found.vectors.items()} == {
        first.id: [1, 1, 1],
        second.id: [0, 0, 0],
    }
    assert dict(found.values) == {"z": b"1"}
    assert dict(store.read("ann", "other").vectors) == {}


def test_of_two_writers_the_second_is_told_and_nothing_is_written(store: Store) -> None:
    (card,) = cards(1)
    version = store.write("ann", 0, Changes(values={"a": b"1"}))
    for stale in (0, version + 1, version - 1):
        with pytest.raises(ConflictError):
            store.write("ann", stale, Changes(cards=[card], values={"a": b"2"}))
    assert (store.read("ann", "m").cards, dict(store.read("ann", "m").values)) == ((), {"a": b"1"})
    assert store.write("ann", version, Changes(values={"a": b"2"})) not in (0, version)


def test_a_snapshot_stays_what_it_was(store: Store) -> None:
    (card,) = cards(1)
    vector = np.ones(3, np.float32)
    version = store.write("ann", 0, Changes(cards=[card], vectors={card.id: vector}, model="m", values={"a": b"1"}))
    before = store.read("ann", "m")
    vector[:] = 7
    store.write("ann", version, Changes(deleted=[card.id], values={"a": None}))
    assert before.cards == (card,)
    assert (before.vectors[card.id].tolist(), before.values["a"]) == ([1, 1, 1], b"1")


def test_deleted_cards_take_their_vectors_with_them(store: Store) -> None:
    first, second = cards(2)
    vectors = {first.id: np.ones(3, np.float32), second.id: np.ones(3, np.float32)}
    version = store.write("ann", 0, Changes(cards=[first, second], vectors=vectors, model="m"))
    version = store.write("ann", version, Changes(deleted=[first.id, "never there"]))
    assert (store.read("ann", "m").cards, set(store.read("ann", "m").vectors)) == ((second,), {second.id})
    version = store.write("ann", version, Changes(cards=[first]))
    assert set(store.read("ann", "m").vectors) == {second.id}
    with pytest.raises(StoreError):
        store.write("ann", version, Changes(vectors={"no card": np.ones(3, np.float32)}, model="m", values={"a": b"1"}))
    assert (store.version("ann"), dict(store.read("ann", "m").values)) == (version, {})


def test_values_are_set_changed_and_deleted(store: Store) -> None:
    version = store.write("ann", 0, Changes(values={"a": b"1", "b": b"2", "c": None}))
    store.write("ann", version, Changes(values={"a": b"3", "b": None}))
    assert dict(store.read("ann", "m").values) == {"a": b"3"}
    assert store.share("a", b"all", None)
    assert store.share("a", b"ours", b"all")
    assert not store.share("a", b"late", b"all")
    assert (store.shared("a"), store.shared("b")) == (b"ours", None)


def test_a_user_who_comes_back_has_no_version_that_was_there(store: Store) -> None:
    versions = set()
    for _ in range(5):
        assert store.version("ann") == 0
        versions.add(store.write("ann", 0, Changes(cards=cards(1))))
        assert store.delete_user("ann")
    assert len(versions) == 5
    assert not store.delete_user("ann")
    assert store.read("ann", "m") == Snapshot()


def test_users_come_in_order_and_odd_ids_are_refused(store: Store) -> None:
    for user in ("zoe", "Émile", "ann", "日本"):
        store.write(user, 0, Changes())
    assert list(store.users()) == sorted(["zoe", "Émile", "ann", "日本"], key=str.encode)
    for user, message in (("", "not empty"), ("x" * 513, "513 characters"), ("a\0b", "null"), ("\ud800", "surrogate")):
        for act in (store.version, store.delete_user, lambda user: store.write(user, 0, Changes())):
            with pytest.raises(InputError, match=message):
                act(user)


def test_a_sample_is_spread_over_users(store: Store) -> None:
    assert store.sample_vectors("m", 10).shape == (0,)
    for number in range(5):
        mine = cards(20, f"u{number}")
        vectors = {card.id: np.full(3, number, np.float32) for card in mine}
        store.write(f"u{number}", 0, Changes(cards=mine, vectors=vectors, model="m"))
    sample = store.sample_vectors("m", 10)
    assert store.count_vectors("m") == 100
    assert (sample.shape, set(sample[:, 0])) == ((10, 3), set(range(5)))
    assert np.array_equal(sample, store.sample_vectors("m", 10))
    assert store.sample_vectors("other", 10).size == 0


def test_both_stores_hold_the_same_after_the_same(tmp_path: Path) -> None:
    held = []
    for store in (MemoryStore(), SQLiteStore(tmp_path / "memory.db")):
        memory = Memory(store, WordEmbedder())
        for number in range(5):
            memory.add("ann", rule(f"do {number % 3}"), source(number))
        memory.delete("ann", memory.cards("ann")[1].id)
        memory.edit("ann", memory.cards("ann")[0].id, action="do it well")
        record = Memory(store, WordEmbedder()).export("ann")
        held.append([(card["rule"]["action"], card["count"], bool(card["superseded_by"])) for card in record["cards"]])
    assert held[0] == held[1]


def test_threads_lose_nothing(store: Store) -> None:
    memory = Memory(store, WordEmbedder())

    def work(name: str) -> None:
        for number in range(10):
            memory.add("ann", rule(f"{name} number {number}"), source(number))

    threads = [threading.Thread(target=work, args=(f"thread{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(memory.cards("ann")) == 30
