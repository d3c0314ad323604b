"""The parts put together with other options than the default ones, without any network."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penchant import InputError, ModelError, Personalizer, Settings
from penchant.learn.paper import PaperLearner
from penchant.learn.reward import Exchange as Rated
from penchant.learn.reward import JudgeReward, Reward
from penchant.learn.space import fit_space
from penchant.memory.merge import new_card
from penchant.memory.sqlite import SQLiteStore
from penchant.memory.store import Changes
from penchant.retrieve.rerank import FLOOR, CrossEncoderReranker
from penchant.testing import ScriptedExtractor
from penchant.wiring import LEAST, SPACE, fitted_space, load_personalizer
from tests.conftest import ROOT
from tests.memory.conftest import WordEmbedder, rule, source
from tests.servers import answering, completion
from tests.test_loop import Chat, script

MEMORY = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")


@pytest.fixture
def server() -> Iterator[tuple[str, set[str]]]:
    """Serve embeddings, rules and verdicts; the models that were asked are in the set."""
    asked: set[str] = set()

    def answer(path: str, sent: dict[str, Any]) -> dict[str, Any]:
        asked.add(sent["model"])
        if path.endswith("/embeddings"):
            rows = WordEmbedder().embed(sent["input"]).tolist()
            return {"data": [{"index": place, "embedding": row} for place, row in enumerate(rows)]}
        said = sent["messages"][-1]["content"]
        if "what does the next message say" in said.casefold():
            return completion(json.dumps({"label": "correction", "confidence": 0.9}))
        found = {"condition": "when writing Python code", "action": "use tabs", "confidence": 0.9}
        return completion(json.dumps({"preferences": [found] if "use tabs" in said else []}))

    with answering(answer) as url:
        yield url, asked


def test_the_python_of_the_docs_loads_other_parts_and_they_work(
    server: tuple[str, set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", MEMORY, re.DOTALL)
    url, asked = server
    assert "http://localhost:8000/v1" in code
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code.replace("http://localhost:8000/v1", url), names)
    loop = names["loop"]
    assert isinstance(loop, Personalizer)
    with loop:
        chat = Chat(loop)
        chat.say("when writing Python code, use tabs. Sort a list.")
        assert chat.say("more writing Python code") == ["When writing Python code, use tabs."]
        chat.messages.append({"role": "user", "content": "no, that is wrong"})
        assert loop.prepare("ann", "s1", chat.messages).reward == -0.8
        last = loop.why("ann", "s1")
        assert last
        assert [list(item.parts) for item in last.considered] == [["long-term", "short-term"]]
        assert "paper:bge-m3" in loop.memory.read("ann").snapshot.values
    assert asked == {"qwen3-8b", "bge-m3", "gpt-4o-mini"}
    assert (tmp_path / "memory.db").exists()


@pytest.mark.parametrize(
    ("verdict", "value", "gate"),
    [
        ('{"label": "praise", "confidence": 0.9}', 0.8, 0.9),
        ('<think>{"label": "correction"} or so</think> {"label": "Praise", "confidence": 0.7}', 0.8, 0.7),
        ('{"label": "praise", "confidence": 0.59}', 0.0, 0.0),
        ('{"label": "topic shift", "confidence": 0.9}', 0.0, 0.0),
    ],
)
def test_the_judge_s_verdict_is_read(verdict: str, value: float, gate: float) -> None:
    with judging(verdict) as judge:
        assert judge.estimate(RATED) == Reward(value, gate)


@pytest.mark.parametrize(
    "verdict",
    [
        "",
        "I cannot say.",
        '{"label": "bliss", "confidence": 0.9}',
        '{"label": "praise"}',
        '{"label": "praise", "confidence": 7}',
    ],
)
def test_a_verdict_that_is_none_is_an_error(verdict: str) -> None:
    with judging(verdict) as judge, pytest.raises(ModelError, match="no verdict from the judge"):
        judge.estimate(RATED)


RATED = Rated("Sort a list.", "sorted(x)", "Thanks!", 0.5)


@contextmanager
def judging(verdict: str) -> Iterator[JudgeReward]:
    """Return a judge whose model answers so."""
    with answering(lambda path, sent: completion(verdict)) as url:
        yield JudgeReward("m", url)


def test_a_cross_encoder_in_a_folder_ranks_the_notes(tmp_path: Path) -> None:
    from tests.retrieve.test_rerank import cross_encoder

    folder = str(cross_encoder(tmp_path / "model", 1))
    with load_personalizer(
        tmp_path / "memory.db",
        settings=Settings(notes=1),
        extractor=ScriptedExtractor(script),
        embedder=WordEmbedder(),
        reranker=folder,
        reward="keywords",
    ) as loop:
        chat = Chat(loop)
        chat.say("when cooking with garlic: use salt. when cooking with salt: use garlic.")
        assert len(chat.say("cooking")) == 1
        last = loop.why("ann", "s1")
        assert last
        notes = [item.note for item in last.considered]
        expected = CrossEncoderReranker(folder).scores("cooking", notes, np.zeros(2))
        assert [item.score for item in last.considered] == pytest.approx(expected, abs=1e-5)
        assert loop.settings.floor is None  # which only the embedded reranker brings along


def test_the_embedded_reranker_brings_its_floor_along(tmp_path: Path) -> None:
    for given, expected in ((None, FLOOR), (-1.0, -1.0)):
        options = {"extractor": ScriptedExtractor(script), "embedder": WordEmbedder()}
        with load_personalizer(tmp_path / "memory.db", settings=Settings(floor=given), **options) as loop:  # type: ignore[arg-type]
            assert loop.settings.floor == expected


def test_a_name_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(**options: object) -> None:
        parts = {"extractor": ScriptedExtractor(script), "embedder": WordEmbedder()}
        load_personalizer(tmp_path / "memory.db", **parts, **options)  # type: ignore[arg-type]

    with pytest.raises(InputError, match="needs a function that sums sessions up"):
        load(settings=Settings(mode="reflection"))
    monkeypatch.setattr("penchant.wiring.PairReader", lambda: pytest.fail("loaded before the names were checked"))
    for options, message in (
        ({"learner": "none"}, "choose evidence or paper"),
        ({"reward": "none"}, "choose reader, keywords or judge"),
        ({"reward": "judge"}, "name the judge's model"),
    ):
        with pytest.raises(InputError, match=message):
            load(**options)


def test_load_takes_what_the_function_behind_it_takes() -> None:
    ours, theirs = (inspect.signature(each).parameters for each in (Personalizer.load, load_personalizer))
    assert ours == theirs


def test_an_item_space_that_is_damaged_is_fitted_again(tmp_path: Path) -> None:
    store, embedder = SQLiteStore(tmp_path / "memory.db"), WordEmbedder()
    assert store.share(SPACE + embedder.name, b"junk", None)
    assert np.array_equal(fitted_space(store, embedder).rows[:, :4], np.eye(256, 4))
    cards = [new_card("ann", rule(f"do {number}"), source(number)) for number in range(LEAST)]
    vectors = dict(zip((card.id for card in cards), embedder.embed([card.note for card in cards]), strict=True))
    store.write("ann", 0, Changes(cards=cards, vectors=vectors, model=embedder.name))
    fitted = fitted_space(store, embedder)
    assert np.abs(fitted.rows) == pytest.approx(np.abs(fit_space(np.stack(list(vectors.values()))).rows), abs=1e-6)
    assert store.shared(SPACE + embedder.name) != b"junk"
    assert np.array_equal(PaperLearner(lambda: fitted_space(store, embedder)).vectors(None).long, np.zeros(256))
