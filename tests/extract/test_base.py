"""Every extractor: windows in, extractions out, in order, lazily, from threads and from an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant import Extraction, Extractor, InputError, Preference, Turn
from penchant.testing import ScriptedExtractor


def says(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def echo(turns: Sequence[Turn]) -> Extraction:
    return Extraction(preferences=(Preference(condition="general", action=turns[-1].content, confidence=1),))


def actions(results: Sequence[Extraction]) -> list[str | None]:
    """Return what each result echoes, or its error."""
    return [result.preferences[0].action if result.valid else result.error for result in results]


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "user", "content": "hi"}],
        [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}],
        (Turn(role="user", content="hi"), {"role": "system", "content": "be nice"}),
    ],
)
def test_extract_takes_every_form_of_turns(turns: Any) -> None:
    assert actions([ScriptedExtractor(echo).extract(turns)]) == ["hi"]


@pytest.mark.parametrize("turns", [[], "hi", None, [{"role": "user"}], [{"role": "assistant", "content": "hi"}]])
def test_extract_raises_for_what_cannot_be_read(turns: Any) -> None:
    extractor = ScriptedExtractor(echo)
    with pytest.raises(InputError):
        extractor.extract(turns)
    with pytest.raises(InputError):
        asyncio.run(extractor.aextract(turns))
    assert extractor.batch_sizes == []


def test_a_kind_that_does_not_exist() -> None:
    with pytest.raises(InputError, match="no extractor 'magic': choose embedded, transformers or endpoint"):
        Extractor.load("magic")  # type: ignore[arg-type]


def test_the_first_batches_are_small_and_none_is_too_large() -> None:
    extractor = ScriptedExtractor(echo, batch_size=30)
    list(extractor.extract_many(says(str(number)) for number in range(100)))
    assert extractor.batch_sizes == [8, 30, 30, 30, 2]


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 40))
def test_results_come_one_for_each_dialogue_in_order(readable: list[bool], batch_size: int) -> None:
    extractor = ScriptedExtractor(echo, batch_size)
    dialogues = [says(str(number)) if good else [] for number, good in enumerate(readable)]
    results = list(extractor.extract_many(dialogues))
    assert [result.valid for result in results] == readable
    assert all(text == str(number) for number, text in enumerate(actions(results)) if readable[number])
    assert sum(extractor.batch_sizes) == sum(readable)
    assert all(0 < size <= batch_size for size in extractor.batch_sizes)
    assert asyncio.run(collect(ScriptedExtractor(echo, batch_size), dialogues)) == results


async def collect(extractor: Extractor, dialogues: Any) -> list[Extraction]:
    return [result async for result in extractor.aextract_many(dialogues)]


def test_a_dialogue_that_cannot_be_read_says_why_and_spares_the_others() -> None:
    bad = [{"role": "user", "content": "hi"}, {"role": "nobody", "content": "hi"}]
    found = actions(list(ScriptedExtractor(echo).extract_many([says("a"), bad, says("b")])))
    assert found[::2] == ["a", "b"]
    assert "turns[1].role is 'nobody'" in (found[1] or "")


def test_keys_stay_with_their_results_and_errors_pass_through() -> None:
    items: list[tuple[int, Any]] = [(1, says("a")), (2, InputError("line 2: broken")), (3, says("b"))]
    found = list(ScriptedExtractor(echo).extract_keyed(items))
    assert [key for key, _ in found] == [1, 2, 3]
    assert actions([result for _, result in found]) == ["a", "line 2: broken", "b"]


def endless(taken: list[int]) -> Iterator[list[dict[str, Any]]]:
    while True:
        taken.append(len(taken))
        yield says(str(taken[-1]))


def test_input_is_consumed_a_batch_at_a_time() -> None:
    taken: list[int] = []
    results = ScriptedExtractor(echo, batch_size=5).extract_many(endless(taken))
    assert taken == []
    for _ in range(5):
        next(results)
    assert len(taken) == 5
    next(results)
    assert len(taken) == 10


def test_async_input_is_consumed_a_batch_at_a_time() -> None:
    taken: list[int] = []

    async def first() -> Extraction:
        results = ScriptedExtractor(echo, batch_size=5).aextract_many(endless(taken))
        try:
            return await anext(results)
        finally:
            await results.aclose()  # type: ignore[attr-defined]

    assert actions([asyncio.run(first())]) == ["0"]
    assert len(taken) == 5


@pytest.mark.parametrize("many", [False, True])
def test_the_event_loop_stays_free(many: bool) -> None:
    """The script waits for something that only the event loop can do."""
    begun, released = threading.Event(), threading.Event()

    def script(turns: Sequence[Turn]) -> Extraction:
        begun.set()
        assert released.wait(60)
        return echo(turns)

    async def release() -> None:
        while not begun.is_set():
            await asyncio.sleep(0.001)
        released.set()

    async def run() -> list[Extraction]:
        extractor = ScriptedExtractor(script)
        work = collect(extractor, [says("a")]) if many else asyncio.gather(extractor.aextract(says("a")))
        results, _ = await asyncio.gather(work, release())
        return list(results)

    assert actions(asyncio.run(run())) == ["a"]


def test_the_event_loop_stays_free_while_an_input_is_waited_for() -> None:
    begun, released = threading.Event(), threading.Event()

    def slow() -> Iterator[list[dict[str, Any]]]:
        begun.set()
        assert released.wait(60)
        yield says("a")

    async def release() -> None:
        while not begun.is_set():
            await asyncio.sleep(0.001)
        released.set()

    async def run() -> list[Extraction]:
        results, _ = await asyncio.wait_for(asyncio.gather(collect(ScriptedExtractor(echo), slow()), release()), 50)
        return list(results)

    assert actions(asyncio.run(run())) == ["a"]


def test_a_bug_of_the_extractor_reaches_the_caller() -> None:
    def script(turns: Sequence[Turn]) -> Extraction:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(ScriptedExtractor(script).extract_many([says("a")]))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(collect(ScriptedExtractor(script), [says("a")]))


def test_threads_share_an_extractor() -> None:
    """All threads are within the extractor at once, and each gets its own answer."""
    meeting = threading.Barrier(8)

    def script(turns: Sequence[Turn]) -> Extraction:
        meeting.wait(60)
        return echo(turns)

    extractor = ScriptedExtractor(script)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: extractor.extract(says(str(number))), range(32)))
    assert actions(results) == [str(number) for number in range(32)]


def test_leaving_the_context_closes_even_after_an_error() -> None:
    extractor = ScriptedExtractor(echo)
    with extractor as same:
        assert same is extractor
    extractor.closed = False
    with pytest.raises(InputError), extractor:
        extractor.extract([])
    assert extractor.closed
