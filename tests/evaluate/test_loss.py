"""The loss of gold answers under tiny models."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from transformers import AutoModelForCausalLM

from penchant.errors import InputError, ModelError
from penchant.evaluate import loss
from penchant.evaluate.specs import Kind, Spec, load
from penchant.extract.answer import ModelForm
from penchant.extract.chat import ChatEncoder
from penchant.extract.transformers import TransformersExtractor
from penchant.models.gguf import build_tokenizer, read_metadata
from penchant.types import LabelledWindow, Preference, Turn
from tests.evaluate.made import rule, window
from tests.lessons import Lesson
from tests.tiny import tiny_gguf

FORM = ModelForm(prompt="card", answer="json")
GOLD = window([rule("use tabs")], [rule("be short", confidence=0.5)])


def as_gold(lesson: Lesson) -> LabelledWindow:
    turns, rules = lesson
    return window(rules, turns=turns)


def test_a_taught_answer_has_hardly_any_loss(taught_model: Path, random_model: Path, lessons: list[Lesson]) -> None:
    for folder, low, high in ((taught_model, 0, 0.1), (random_model, 3, 12)):
        model = loss.from_extractor(TransformersExtractor(str(folder), device="cpu", dtype="float32"))
        for lesson in lessons:
            measured = model.loss(as_gold(lesson))
            assert low <= measured.total / measured.tokens < high


def test_the_loss_is_that_of_every_answer_token(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf")
    measured = loss.from_gguf(path, FORM).loss(GOLD)
    encoder = ChatEncoder(build_tokenizer(read_metadata(path)), FORM.prompt, FORM.answer_form)
    question, answer = encoder.question(GOLD.turns), encoder.answer(GOLD.rules)
    assert answer[-1] == encoder.end
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    with torch.inference_mode():
        chances = model(torch.tensor([question + answer])).logits[0].log_softmax(-1)
    expected = -sum(float(chances[len(question) + i - 1, token]) for i, token in enumerate(answer))
    assert measured.tokens == len(answer)
    assert measured.total == pytest.approx(expected, rel=1e-4)


def test_weights_are_loaded_from_a_file_by_its_spec(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", scale=0.02)
    with load(Spec("tiny", Kind.embedded, str(path))) as loaded:
        found = loaded.extractor.extract([Turn(role="user", content="Hi")])
        assert "cut off" in (found.error or "")  # it babbles
        assert loaded.load_answers is not None
        measured = loaded.load_answers().loss(GOLD)
    assert measured.total / measured.tokens == pytest.approx(math.log(262), rel=0.05)  # it knows nothing


def test_optional_rules_belong_to_the_answer(tmp_path: Path) -> None:
    model = loss.from_gguf(tiny_gguf(tmp_path / "tiny.gguf"), FORM)
    optional: tuple[Preference, ...] = ()
    assert model.loss(GOLD).tokens > model.loss(GOLD.model_copy(update={"optional": optional})).tokens


def test_what_cannot_be_measured_is_an_error(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf")
    blank = window(turns=(Turn(role="user", content="\x00\x01"),))
    with pytest.raises(InputError):
        loss.from_gguf(path, FORM).loss(blank)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(ModelError, match=r"tiny\.gguf"):
        loss.from_gguf(path, FORM)
