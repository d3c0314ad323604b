"""Examples and batches: loss on the JSON alone, the same loss in both layouts, an order that can go on."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from penchant.data.records import load_windows
from penchant.errors import InputError
from penchant.extract.answer import FORMS, FormName
from penchant.extract.chat import ChatEncoder
from penchant.extract.schema import parse_strict
from penchant.extract.window import SYSTEM_PROMPTS, PromptName
from penchant.models.gguf import build_tokenizer, read_metadata
from penchant.train.base import load_base, write_hf_folder
from penchant.train.batches import GroupedSampler, collate_flat, collate_padded, select_answers
from penchant.train.examples import IGNORED, encode_window, make_dataset
from penchant.train.recipe import Recipe
from penchant.types import LabelledWindow
from tests.conftest import ROOT
from tests.tiny import tiny_gguf


def test_the_loss_is_on_the_json_alone(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    model, tokenizer = load_base(recipe.model)
    rows = make_dataset([data], tokenizer, recipe, tmp_path)
    for row, window in zip(rows, load_windows(data, LabelledWindow), strict=True):
        answer = [token for token in row["labels"] if token != IGNORED]
        assert row["labels"] == [IGNORED] * (row["length"] - len(answer)) + answer
        assert row["input_ids"][-len(answer) :] == answer
        assert answer[-1] == tokenizer.eos_token_id
        assert parse_strict(tokenizer.decode(answer[:-1])) == window.rules
        assert SYSTEM_PROMPTS["card"] in tokenizer.decode(row["input_ids"])
    assert model.dtype == torch.float32


def test_both_layouts_have_the_same_loss_and_the_models_own(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    model, tokenizer = load_base(recipe.model)
    rows = list(make_dataset([data], tokenizer, recipe, tmp_path))[:5]
    ones = [
        model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.item()
        * sum(label != IGNORED for label in row["labels"])
        for row in rows
    ]
    count = sum(label != IGNORED for row in rows for label in row["labels"])
    padded_model = copy.deepcopy(model)
    select_answers(padded_model)
    padded = collate_padded(rows, tokenizer.pad_token_id)
    flat = collate_flat(rows)
    assert padded["labels"].numel() == int(padded["predicts"].sum()) == flat["labels"].numel() == count
    with torch.inference_mode():
        assert padded_model(**padded).loss.item() == pytest.approx(sum(ones) / count, rel=1e-5)
        assert model(**flat).loss.item() == pytest.approx(sum(ones) / count, rel=1e-5)


@pytest.mark.parametrize(("prompt", "answer"), [("card", "json"), ("brief", "lines")])
def test_training_and_the_embedded_extractor_read_the_same_tokens(
    recipe: Recipe, tmp_path: Path, prompt: PromptName, answer: FormName
) -> None:
    gguf = tiny_gguf(tmp_path / "base.gguf")
    write_hf_folder(gguf, tmp_path / "hf")
    _, tokenizer = load_base(str(tmp_path / "hf"))
    messages = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    tokenizer.chat_template = messages + "{{ '<|im_start|>assistant\n' }}"
    encoder = ChatEncoder(build_tokenizer(read_metadata(gguf)), prompt, FORMS[answer])
    chosen = recipe.model_copy(update={"prompt": prompt, "answer": answer})
    for window in load_windows(ROOT / "data" / "labelled" / "dev.jsonl", LabelledWindow)[:50]:
        row = encode_window(tokenizer, window, chosen)
        assert row["input_ids"] == encoder.question(window.turns) + encoder.answer(window.rules)


def test_a_bad_record_is_named(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    _, tokenizer = load_base(recipe.model)
    bad = tmp_path / "bad.jsonl"
    lines = data.read_text().splitlines()
    bad.write_text("\n".join([*lines[:2], lines[2].replace('"confidence": 0.9', '"confidence": 7'), *lines[3:]]))
    with pytest.raises(InputError, match=r"bad.jsonl:3: preferences.0.confidence: Input should be less than or equal"):
        make_dataset([bad], tokenizer, recipe, tmp_path / "cache")
    with pytest.raises(InputError, match="fits max_length 3"):
        make_dataset([data], tokenizer, recipe.model_copy(update={"max_length": 3}), tmp_path / "cache")


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_has_every_window_in_whole_batches(lengths: list[int], batch_size: int, epoch: int) -> None:
    sampler = GroupedSampler(lengths, batch_size, seed=1)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert set(order) == set(range(len(lengths)))
    assert len(order) == len(sampler) == -(-len(lengths) // batch_size) * batch_size
    assert order == list(sampler)  # the epoch alone decides


def test_epochs_differ_and_batches_are_of_like_length() -> None:
    lengths = [number % 97 + 1 for number in range(970)]
    sampler = GroupedSampler(lengths, 10, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    assert first != list(sampler)
    padded = sum(max(lengths[i] for i in first[k : k + 10]) * 10 for k in range(0, 970, 10))
    assert padded < 1.25 * sum(lengths)
