"""Cards: merging, history, the users' rights, and several memories on one store."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from penchant import InputError, ModelError, Preference
from penchant.memory.memory import Memory
from penchant.memory.merge import STRENGTH, ReaderRelate
from penchant.memory.sqlite import SQLiteStore
from penchant.memory.store import Changes, ConflictError
from penchant.models.pairs import PairReader
from penchant.types import SOURCE_LIMIT
from tests.memory.conftest import START, WordEmbedder, relate, rule, source


@pytest.fixture(scope="module")
def shipped_judge() -> ReaderRelate:
    return ReaderRelate(partial(PairReader().chances, "relation"))


def test_a_new_wish_is_a_new_card_with_its_provenance(memory: Memory) -> None:
    merged = memory.add("ann", rule("use tabs"), source(3, "monday", "tabs please"))
    (card,) = memory.cards("ann")
    assert merged.outcome == "added"
    assert merged.card == card
    assert card.note == "When writing Python code, use tabs."
    assert (card.sources[0].session, card.sources[0].turns, card.sources[0].text) == ("monday", (3,), "tabs please")
    assert (card.count, card.is_global, card.pinned, card.superseded_by) == (1, False, False, None)
    assert (card.created, card.seen) == (START + timedelta(hours=3),) * 2


def test_the_same_wish_again_strengthens_the_card(memory: Memory) -> None:
    memory.add("ann", rule("use tabs", confidence=0.8), source(0))
    merged = memory.add("ann", rule("use tabs everywhere", confidence=0.6), source(2))
    (card,) = memory.cards("ann")
    assert (merged.outcome, card.rule.action, card.count) == ("strengthened", "use tabs everywhere", 2)
    assert [old.rule.action for old in memory.history("ann", card.id)] == ["use tabs", "use tabs everywhere"]
    assert card.rule.confidence == pytest.approx(1 - 0.2 * (1 - STRENGTH * 0.6))
    assert card.seen == START + timedelta(hours=2)
    assert [item.turns for item in card.sources] == [(0,), (2,)]


def test_one_turn_read_in_two_windows_counts_once(memory: Memory) -> None:
    for _ in range(3):
        merged = memory.add("ann", rule("use tabs"), source(0))
    assert (merged.outcome, merged.changed) == ("known", ())
    assert memory.cards("ann")[0].count == 1
    memory.add("ann", rule("use tabs for indentation"), source(0))  # the same words, read otherwise
    assert memory.cards("ann")[0].count == 1


def test_two_wishes_of_one_sentence_are_two(memory: Memory) -> None:
    memory.add("ann", rule("use tabs"), source(0))
    memory.add("ann", rule("use spaces"), source(0))  # taken for a contrary wish
    assert [card.rule.action for card in memory.cards("ann")] == ["use tabs", "use spaces"]


def test_of_several_cards_about_a_matter_the_same_wish_goes_on(memory: Memory, store: SQLiteStore) -> None:
    odds = {"tabs": (0.9, 0.02, 0.08), "yaks": (0.02, 0.95, 0.03), "pens": (0.93, 0.05, 0.02)}

    def judge(new: Preference, old: list[Preference]) -> np.ndarray:
        return np.array([odds[each.action.split()[1]] for each in old])

    plain = Memory(store, WordEmbedder())
    for turn, action in enumerate(("use tabs", "use tabs", "use yaks", "use pens")):
        plain.add("ann", rule(action), source(turn))
    tabs = next(card for card in plain.cards("ann") if card.rule.action == "use tabs")
    mine = plain.edit("ann", tabs.id, action="use tabs always")
    plain.pin("ann", next(card.id for card in plain.cards("ann") if card.rule.action == "use yaks"))
    merged = Memory(store, WordEmbedder(), judge).add("ann", rule("use inks"), source(9))  # type: ignore[arg-type]
    (card,) = plain.cards("ann")
    assert (merged.outcome, card.id, card.rule.action, card.pinned) == (
        "strengthened",
        mine.id,
        "use tabs always",
        True,
    )
    assert card.count == 2 + 1 + 1  # twice in these words, once in others, and now


def test_words_that_the_user_wrote_stay_until_they_say_the_contrary(memory: Memory) -> None:
    card = memory.add("ann", rule("use tabs"), source(0)).card
    edited = memory.edit("ann", card.id, action="use tabs of width 4")
    memory.pin("ann", edited.id)
    assert memory.add("ann", rule("use tabs everywhere"), source(1)).outcome == "strengthened"
    assert memory.cards("ann")[0].rule.action == "use tabs of width 4"
    memory.add("ann", rule("use spaces"), source(2))
    (now,) = memory.cards("ann")
    assert (now.rule.action, now.edited, now.pinned, now.count) == ("use spaces", False, True, 1)


def test_words_that_the_user_wrote_win_over_a_card_of_the_same_words_as_the_wish(memory: Memory) -> None:
    memory.add("ann", rule("use tabs"), source(0))
    card = memory.add("ann", rule("be brief"), source(1)).card
    memory.edit("ann", card.id, action="use tabs of width 4")  # an edit is not merged
    memory.add("ann", rule("use tabs"), source(2))
    (now,) = memory.cards("ann")
    assert (now.id, now.rule.action) == (card.id, "use tabs of width 4")


def test_a_contrary_wish_that_may_be_the_same_one_is_not_lost_on_an_edited_card(store: SQLiteStore) -> None:
    def unsure(new: Preference, old: list[Preference]) -> np.ndarray:
        return np.array([[0.5, 0.45, 0.05]] * len(old))

    memory = Memory(store, WordEmbedder(), unsure)  # type: ignore[arg-type]
    card = memory.add("ann", rule("use tabs"), source(0)).card
    memory.edit("ann", card.id, action="use tabs of width 4")
    memory.add("ann", rule("use spaces"), source(1))
    assert [card.rule.action for card in memory.cards("ann")] == ["use spaces"]


def test_a_contrary_wish_takes_the_place_of_the_old_one(memory: Memory) -> None:
    tabs = memory.add("ann", rule("use tabs"), source(0)).card
    memory.add("ann", rule("use tabs", condition="when writing Go code"), source(1))
    merged = memory.add("ann", rule("use spaces"), source(2))
    again = memory.add("ann", rule("use yaks"), source(4)).card
    assert merged.outcome == "replaced"
    assert [card.note for card in memory.cards("ann")] == [again.note, "When writing Go code, use tabs."]
    history = memory.history("ann", again.id)
    assert [card.rule.action for card in history] == ["use tabs", "use spaces", "use yaks"]
    assert [card.superseded_by for card in history] == [again.id, again.id, None]
    assert (again.id, again.count, [each.turns for each in again.sources]) == (tabs.id, 1, [(4,)])
    assert [each.turns for each in history[0].sources] == [(0,)]


def test_without_a_judge_nothing_is_merged_but_the_same_words(store: SQLiteStore) -> None:
    memory = Memory(store, WordEmbedder())
    for turn, action in enumerate(["use tabs", "Use Tabs", "use spaces"]):
        memory.add("ann", rule(action), source(turn))
    assert [(card.rule.action, card.count) for card in memory.cards("ann")] == [("use tabs", 2), ("use spaces", 1)]


def test_sources_are_bounded_and_the_count_is_not(memory: Memory) -> None:
    for turn in range(SOURCE_LIMIT + 5):
        memory.add("ann", rule("use tabs"), source(turn))
    (card,) = memory.cards("ann")
    assert (card.count, len(card.sources), card.sources[0].turns) == (SOURCE_LIMIT + 5, SOURCE_LIMIT, (5,))
    assert card.rule.confidence <= 1


def test_editing_and_pinning(memory: Memory) -> None:
    old = memory.add("ann", rule("use tabs"), source(0)).card
    memory.pin("ann", old.id)
    new = memory.edit("ann", old.id, action="use tabs of width 4")
    assert (new.rule.action, new.rule.confidence, new.pinned, new.edited) == ("use tabs of width 4", 1.0, True, True)
    assert memory.cards("ann") == (new,)
    assert new.id == old.id
    before, now = memory.history("ann", new.id)
    assert (before.rule.action, now) == ("use tabs", new)
    assert memory.edit("ann", new.id, condition="general").is_global
    with pytest.raises(InputError, match=f"is history: change '{old.id}'"):
        memory.pin("ann", before.id)
    with pytest.raises(InputError, match="action: String should have at most 256"):
        memory.edit("ann", memory.cards("ann")[0].id, action="x" * 257)
    with pytest.raises(InputError, match="no card 'nope'"):
        memory.edit("ann", "nope", action="x")
    assert not memory.pin("ann", memory.cards("ann")[0].id, pinned=False).pinned


def test_a_deleted_card_takes_its_history_along(memory: Memory, store: SQLiteStore) -> None:
    memory.add("ann", rule("use tabs"), source(0))
    new = memory.add("ann", rule("use spaces"), source(1)).card
    other = memory.add("ann", rule("be brief"), source(2)).card
    memory.delete("ann", new.id)
    assert [card.id for card in store.read("ann", "words").cards] == [other.id]
    assert set(store.read("ann", "words").vectors) == {other.id}
    with pytest.raises(InputError, match="no card"):
        memory.delete("ann", new.id)


def test_nobody_touches_another_users_cards(memory: Memory) -> None:
    card = memory.add("ann", rule("use tabs"), source(0)).card
    memory.add("bob", rule("use tabs"), source(0))
    for act in (memory.card, memory.pin, memory.delete, memory.history):
        with pytest.raises(InputError, match="no card"):
            act("bob", card.id)  # type: ignore[operator]
    assert memory.delete_user("bob")
    assert not memory.delete_user("bob")
    assert memory.cards("ann") == (card,)
    assert list(memory.users()) == ["ann"]


def test_export_and_import_lose_nothing(memory: Memory, store: SQLiteStore) -> None:
    memory.add(
        "ann", rule("use tabs", confidence=0.123456789012345), source(0, text='tabs "\n\u2028 日本語 \U0001f600')
    )
    memory.add("ann", rule("use spaces"), source(1))
    memory.change("ann", lambda _: (Changes(values={"z": bytes(range(256))}), None))
    before = store.read("ann", "words")
    record = json.loads(json.dumps(memory.export("ann")))
    with pytest.raises(InputError, match="user 'ann' is in this memory already"):
        memory.load(record)
    memory.delete_user("ann")
    assert memory.load(record) == "ann"
    after = store.read("ann", "words")
    assert (after.cards, after.values) == (before.cards, before.values)
    assert set(after.vectors) == set(before.vectors)
    assert all(np.array_equal(after.vectors[card], before.vectors[card]) for card in before.vectors)
    assert memory.export("ann") == record


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"format": "other"}, "format: this is no export"),
        ({"cards": [{}]}, "cards: id: Field required"),
        ({"cards": 5}, "this export is damaged"),
        ({"vectors": {"nobody": "AAAAAA=="}}, "a vector has no card"),
        ({"values": {"z": "no base64!"}}, "this export is damaged"),
        ({"user": "eve"}, "another user's"),
        ({"embedder": 7}, "the embedder has no name"),
    ],
)
def test_a_damaged_export_stores_nothing(memory: Memory, damage: dict[str, object], message: str) -> None:
    memory.add("ann", rule("use tabs"), source(0))
    record = memory.export("ann") | damage
    memory.delete_user("ann")
    with pytest.raises(InputError, match=message):
        memory.load(record)
    assert list(memory.users()) == []


def test_vectors_that_do_not_fit_each_other_are_not_imported(memory: Memory) -> None:
    memory.add("ann", rule("use tabs"), source(0))
    memory.add("ann", rule("keep short"), source(1))
    record = memory.export("ann")
    memory.delete_user("ann")
    first = next(iter(record["vectors"]))
    for bad, message in ((b"\0" * 8, "all of one length"), (b"\xff" * 4 * 64, "no number")):
        damaged = record | {"vectors": record["vectors"] | {first: base64.b64encode(bad).decode()}}
        with pytest.raises(InputError, match=message):
            memory.load(damaged)
    assert list(memory.users()) == []


def test_an_import_of_another_embedders_vectors_is_embedded_again(memory: Memory, tmp_path: Path) -> None:
    memory.add("ann", rule("use tabs"), source(0))
    other = Memory(SQLiteStore(tmp_path / "other.db"), WordEmbedder("other", 16), relate)
    other.load(memory.export("ann"))
    assert other.read("ann").vectors.shape == (1, 16)
    assert other.add("ann", rule("use tabs all day"), source(1)).outcome == "strengthened"


def test_looking_and_deleting_need_no_embedder(memory: Memory, store: SQLiteStore) -> None:
    class Missing:
        name = "missing"

        def embed(self, texts: list[str]) -> np.ndarray:
            raise ModelError("no network")

    memory.add("ann", rule("use tabs"), source(0))
    looking = Memory(store, Missing(), None)  # type: ignore[arg-type]
    (card,) = looking.cards("ann")
    looking.pin("ann", card.id)
    assert looking.export("ann")["cards"]
    looking.delete("ann", card.id)
    assert memory.cards("ann") == ()


def test_history_is_found_in_whatever_order_cards_superseded_each_other(memory: Memory) -> None:
    def never(new: Preference, old: list[Preference]) -> np.ndarray:
        return np.array([[0.0, 0.0, 1.0]] * len(old))

    memory.add("ann", rule("use tabs"), source(0))
    Memory(memory._store, WordEmbedder(), never).add("ann", rule("use spaces"), source(1))  # type: ignore[arg-type]
    memory.add("ann", rule("use tabs"), source(2))  # the older card supersedes the newer
    last = memory.add("ann", rule("use yaks"), source(3)).card
    assert [card.rule.action for card in memory.history("ann", last.id)] == ["use spaces", "use tabs", "use yaks"]
    memory.delete("ann", last.id)
    assert memory.read("ann").snapshot.cards == ()


def test_two_memories_see_each_others_changes(store: SQLiteStore) -> None:
    here = Memory(store, WordEmbedder(), relate)
    there = Memory(SQLiteStore(store.path), WordEmbedder(), relate)
    for number in range(6):
        (here, there)[number % 2].add("ann", rule(f"do{number} it"), source(number))
    assert here.cards("ann") == there.cards("ann")
    assert len(here.cards("ann")) == 6
    there.delete_user("ann")
    assert here.cards("ann") == ()
    there.add("ann", rule("use tabs"), source(0))
    assert [card.rule.action for card in here.cards("ann")] == ["use tabs"]


def test_a_writer_who_loses_the_race_decides_again(store: SQLiteStore) -> None:
    here, there = (Memory(SQLiteStore(store.path), WordEmbedder(), relate) for _ in range(2))
    raced = []

    def slow(new: Preference, old: list[Preference]) -> np.ndarray:
        if not raced:
            raced.append(there.add("ann", rule("use spaces"), source(5)))
        return relate(new, old)

    here.add("ann", rule("use tabs"), source(0))
    Memory(store, WordEmbedder(), slow).add("ann", rule("use yaks"), source(9))  # type: ignore[arg-type]
    assert [card.rule.action for card in here.cards("ann")] == ["use yaks"]
    assert len(here.history("ann", here.cards("ann")[0].id)) == 3
    with pytest.raises(ConflictError):
        store.write("ann", 1, Changes())


def test_vectors_that_are_no_vectors_of_the_embedder_are_refused(memory: Memory) -> None:
    memory.add("ann", rule("use tabs"), source(0))
    record = memory.export("ann")
    memory.delete_user("ann")
    short = base64.b64encode(np.ones(3, "<f4").tobytes()).decode()
    with pytest.raises(InputError, match="vectors: they are not as long as those of words"):
        memory.load(record | {"vectors": dict.fromkeys(record["vectors"], short)})
    assert memory.cards("ann") == ()
    memory.load(record)
    assert memory.read("ann").vectors.shape == (1, 64)


def test_another_embedder_embeds_the_cards_again(memory: Memory, store: SQLiteStore) -> None:
    memory.add("ann", rule("use tabs"), source(0))
    other = Memory(store, WordEmbedder("other", 16), relate)
    assert other.read("ann").vectors.shape == (1, 16)
    assert other.add("ann", rule("use tabs all day"), source(1)).outcome == "strengthened"
    (card,) = memory.cards("ann")
    assert memory.read("ann").vectors == pytest.approx(WordEmbedder().embed([card.note]))  # not of the old words
    memory.add("ann", rule("be brief"), source(2))
    other.add("ann", rule("see dogs"), source(3))
    assert set(store.read("ann", "other").vectors) >= set(store.read("ann", "words").vectors)  # both are kept


def test_several_rules_are_added_as_one_after_the_other(memory: Memory, store: SQLiteStore) -> None:
    rules = [(rule("use tabs"), source(0)), (rule("be brief"), source(1)), (rule("use spaces"), source(2))]
    vectors = memory.embed([each for each, _ in rules])
    changes, merged = memory.added(memory.read("ann"), "ann", rules, vectors)
    assert [each.outcome for each in merged] == ["added", "added", "replaced"]
    assert memory.cards("ann") == ()  # nothing is written yet
    memory.change("ann", lambda cards: (changes, None))
    single = Memory(store, WordEmbedder(), relate)
    for each, where in rules:
        single.add("bob", each, where)
    ann, bob = memory.cards("ann"), memory.cards("bob")
    assert [(card.note, card.count, card.sources) for card in ann] == [
        (card.note, card.count, card.sources) for card in bob
    ]
    assert memory.read("ann").vectors == pytest.approx(WordEmbedder().embed([card.note for card in ann]))
    assert len(memory.history("ann", ann[0].id)) == 2


@pytest.mark.parametrize(
    ("chances", "condition", "outcome", "count"),
    [
        ((0.2, 0.6, 0.2), "when writing code", "added", 1),
        ((0.2, 0.6, 0.2), "When writing  Python code", "replaced", 1),  # under the same condition, less is enough
        ((0.3, 0.38, 0.32), "when writing Python code", "added", 1),
        ((0.3, 0.65, 0.05), "when writing code", "strengthened", 2),  # rather a contrary wish, but not clearly
        ((0.1, 0.85, 0.05), "when writing code", "replaced", 1),
    ],
)
def test_how_sure_of_a_relation_merging_must_be(
    store: SQLiteStore, chances: tuple[float, float, float], condition: str, outcome: str, count: int
) -> None:
    memory = Memory(store, WordEmbedder(), lambda new, old: np.array([chances] * len(old)))
    memory.add("ann", rule("indent with tabs"), source(0))
    merged = memory.add("ann", rule("indent by tabs", condition=condition), source(1))
    assert (merged.outcome, merged.card.count, len(merged.card.sources)) == (outcome, count, count)


def test_the_shipped_judge_updates_and_keeps_apart(store: SQLiteStore, shipped_judge: ReaderRelate) -> None:
    memory = Memory(store, WordEmbedder(), shipped_judge)
    wishes = ["avoid bullet points", "use a friendly tone", "start with Hi", "bullet points are fine again"]
    for turn, action in enumerate(wishes):
        memory.add("ann", rule(action, condition="when writing emails"), source(turn))
    assert [card.rule.action for card in memory.cards("ann")] == [wishes[3], *wishes[1:3]]
    assert len(memory.history("ann", memory.cards("ann")[0].id)) == 2


@pytest.mark.parametrize("condition", ["general", "when coding", "when writing Python code"])
def test_the_shipped_judge_lets_spaces_take_the_place_of_tabs(
    store: SQLiteStore, shipped_judge: ReaderRelate, condition: str
) -> None:
    memory = Memory(store, WordEmbedder(), shipped_judge)
    for turn, action in enumerate(["use tabs", "use type hints", "use spaces"]):
        memory.add("ann", rule(action, condition=condition), source(turn))
    assert {card.rule.action for card in memory.cards("ann")} == {"use spaces", "use type hints"}
