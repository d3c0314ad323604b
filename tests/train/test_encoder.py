"""Training and exporting the encoder, on a tiny BERT with random weights."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from penchant import ModelError, Preference, Turn
from penchant.extract.encoder import Encoder
from penchant.train import encoder as module
from penchant.types import LabelledWindow

WISHES = ("always metric units", "never use tables", "answer in french please", "no jokes ever", "call me by my name")
PLAIN = ("what is a cat", "how far is rome", "sort this list", "who wrote hamlet", "when did it rain")


@pytest.fixture
def tiny_bert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    words = sorted(
        {word for text in (*WISHES, *PLAIN) for word in text.split()} | {"general", ":", "now", "then", "so"}
    )
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path / "bert"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=256,
    )
    BertModel(config).save_pretrained(folder)
    monkeypatch.setattr(module, "minilm_folder", lambda: folder)
    return folder


def windows(count: int) -> list[LabelledWindow]:
    rng = random.Random(0)
    made = []
    for number in range(count):
        wish = number % 2 == 0
        text = rng.choice(WISHES if wish else PLAIN)
        rules = (Preference(condition="general", action=text, confidence=0.9),) if wish else ()
        turns = (Turn(role="user", content=f"{rng.choice(('now', 'then', 'so'))} {text}"),)
        made.append(LabelledWindow(id=str(number), turns=turns, preferences=rules))
    return made


@pytest.mark.filterwarnings("ignore")  # OpenVINO traces by a deprecated function of torch's
def test_the_gate_and_the_likeness_are_learnt_and_survive_the_export(tiny_bert: Path, tmp_path: Path) -> None:
    network, tokenizer = module.train(windows(160), epochs=4, learning_rate=1e-3, batch_size=16, seed=0)
    module.export(network, tokenizer, tmp_path / "out")
    encoder = Encoder(tmp_path / "out")
    wishes = encoder.probabilities([[Turn(role="user", content=text)] for text in WISHES])
    plain = encoder.probabilities([[Turn(role="user", content=text)] for text in PLAIN])
    assert wishes.min() > plain.max()
    likeness = encoder.embed(list(WISHES)) @ encoder.embed([f"general: {text}" for text in WISHES]).T
    assert list(likeness.argmax(1)) == list(range(len(WISHES)))
    with torch.no_grad():
        for text in (*WISHES, "x " * 60):
            ids = tokenizer(text, return_tensors="pt")
            logit, vector = network(ids.input_ids, ids.attention_mask)
            found, vectors = encoder._run([ids.input_ids[0].tolist()])
            assert found[0] == pytest.approx(logit.item(), abs=0.25)  # int8 weights
            assert float(vectors[0] @ vector[0].numpy()) > 0.98
    assert (tmp_path / "out" / "encoder.bin").stat().st_size < 0.4 * (tiny_bert / "model.safetensors").stat().st_size


def test_words_that_are_kept_stay_as_they_are_while_the_rest_learns(tiny_bert: Path) -> None:
    before = BertModel.from_pretrained(tiny_bert)
    words = np.random.default_rng(0).standard_normal((before.config.vocab_size, 384)).astype(np.float32)
    network, _ = module.train(windows(32), epochs=1, learning_rate=1e-3, batch_size=16, seed=0, words=words)
    assert np.array_equal(network.encoder.get_input_embeddings().weight.numpy(), words)
    places = [model.embeddings.position_embeddings.weight for model in (before, network.encoder)]
    assert not torch.equal(*places)


def test_a_batch_without_rules_has_no_pairs(tiny_bert: Path) -> None:
    torch.manual_seed(0)
    network = module.Network(tiny_bert)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_bert)
    losses = module._losses(network, tokenizer, [w for w in windows(8) if not w.is_positive], random.Random(0))
    assert losses["pairs"].item() == 0
    assert np.isfinite(losses["gate"].item())


@pytest.mark.parametrize("damage", [lambda folder: None, lambda folder: (folder / "encoder.xml").write_text("<")])
def test_a_damaged_encoder_is_an_error(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    damage(tmp_path)
    with pytest.raises(ModelError, match="reinstall penchant"):
        Encoder(tmp_path)
