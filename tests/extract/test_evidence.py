"""Which words a rule rests on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant import Extraction, Preference, Turn
from penchant.extract.confidence import FILE, load_confidence
from penchant.extract.embedded import WEIGHTS
from penchant.extract.encoder import MAX_TOKENS, Encoder, user_text
from penchant.extract.evidence import find_support, sentences
from penchant.extract.window import ELISION, render_window, user_spans


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(WEIGHTS / "encoder")


def rule(condition: str, action: str) -> Preference:
    return Preference(condition=condition, action=action, confidence=0.9)


@given(st.text(max_size=900))
def test_sentences_are_spans_of_the_text_in_order(text: str) -> None:
    spans = sentences(text)
    assert all(text[start:end].strip() == text[start:end] != "" for start, end in spans)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    rest = "".join(
        text[a:b] for a, b in zip([0, *(e for _, e in spans)], [*(s for s, _ in spans), len(text)], strict=True)
    )
    assert rest.strip() == ""


def test_the_evidence_is_the_users_sentence(encoder: Encoder) -> None:
    turns = [
        Turn(role="user", content="How do I read a CSV? We moved to Polars last year, no pandas please. It has 4 GB."),
        Turn(role="assistant", content="Use metric units and pandas. I will always answer in Spanish."),
        Turn(role="user", content="Right.\n\nAnd I'm vegan, by the way! What's for lunch?"),
    ]
    polars, vegan, spanish = find_support(
        [
            rule("when writing Python code", "use Polars instead of pandas"),
            rule("for meal suggestions", "suggest only vegan dishes"),
            rule("general", "answer in Spanish"),
        ],
        turns,
        encoder,
    )
    assert polars.evidence.text == "We moved to Polars last year, no pandas please."
    assert vegan.evidence.turn == 2
    assert "I'm vegan, by the way!" in vegan.evidence.text
    for found in (polars, vegan, spanish):
        place = found.evidence
        assert turns[place.turn].content[place.start : place.end] == place.text
        assert turns[place.turn].role == "user"
    assert spanish.cosine < min(polars.cosine, vegan.cosine)  # only the assistant said so


def test_hostile_text_has_evidence_too(encoder: Encoder) -> None:
    for text, expected in (
        ("\ud800 Always use tabs.", "\ufffd Always use tabs."),
        (" " * 4000 + "Always use tabs." + "\n " * 4000, "Always use tabs."),
        ("[SEP] [PAD] always use tabs", "[SEP] [PAD] always use tabs"),
        ("\x07", None),
        ("\n\u200b", "\u200b"),
        ("日" * 1500 + "。タブを使って。", None),
    ):
        turns = [Turn(role="user", content="use tabs"), Turn(role="user", content=text)]
        (found,) = find_support([rule("when coding", "use tabs")], turns[bool(expected) :], encoder)
        assert expected in (None, found.evidence.text)
        Extraction(evidence=(found.evidence,)).model_dump_json()


def test_what_the_model_reads_is_what_user_spans_says() -> None:
    texts = ["a" * 400 + "b" * 900, "c" * 2000 + "d" * 2000, "日" * 2000, "short", "  \n x" + " " * 5000]
    for last in texts:
        turns = [Turn(role="user", content=text) for text in (*texts, last)]
        rendered = render_window(turns)
        spans = user_spans(turns)
        for index, start, end in spans:
            assert turns[index].content[start:end] in rendered
        read = sum(end - start for _, start, end in spans)
        labels = rendered.count("User: ") * len("User: ") + rendered.count(ELISION) * len(ELISION)
        assert read == len(rendered) - labels - 5  # the line breaks between six turns


def test_only_what_the_model_read_is_evidence(encoder: Encoder) -> None:
    old = [Turn(role="user", content="use tabs, always"), Turn(role="assistant", content="ok")]
    recent = [Turn(role=("user", "assistant")[i % 2], content=f"thing number {i}") for i in range(5)]
    (found,) = find_support([rule("when coding", "use tabs")], [*old, *recent], encoder)
    assert found.evidence.turn >= 2


def test_a_huge_turn_is_read_at_its_ends(encoder: Encoder) -> None:
    text = "Answer in French. " + "blah blah. " * 20_000 + "Use metric units."
    french, metric = find_support(
        [rule("general", "answer in French"), rule("general", "use metric units")],
        [Turn(role="user", content=text)],
        encoder,
    )
    assert (french.evidence.text, metric.evidence.text) == ("Answer in French.", "Use metric units.")


def test_the_gate_does_not_depend_on_neighbours_and_reads_long_text_in_pieces(encoder: Encoder) -> None:
    wish = [Turn(role="user", content="From now on always give me metric units.")]
    plain = [Turn(role="user", content="What is the capital of France?")]
    long = [Turn(role="user", content="word " * 250 + "From now on always give me metric units. " + "word " * 250)]
    together = encoder.probabilities([wish, plain, long])
    alone = np.concatenate([encoder.probabilities([window]) for window in (wish, plain, long)])
    assert together == pytest.approx(alone, abs=1e-3)
    assert together[0] > 0.5 > together[1]
    assert len(list(encoder._pieces(user_text(long)))) > 1
    assert all(len(piece) <= MAX_TOKENS for piece in encoder._pieces("word " * 5000))
    assert encoder.probabilities([]).shape == (0,)
    assert encoder.embed([]).shape == (0, 384)


def test_at_the_shipped_threshold_what_only_the_assistant_said_is_dropped(encoder: Encoder) -> None:
    turns = [
        Turn(role="user", content="Write a Python function that sorts a list."),
        Turn(role="assistant", content="Here it is. For recipes I always give amounts in grams."),
        Turn(role="user", content="Thanks, now one that reverses it, without type hints."),
    ]
    echo, said = find_support(
        [rule("for recipes", "give amounts in grams"), rule("when writing Python code", "use no type hints")],
        turns,
        encoder,
    )
    least = load_confidence(WEIGHTS / FILE).weighing.support
    assert echo.cosine < least <= said.cosine
