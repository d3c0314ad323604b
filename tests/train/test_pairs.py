"""The pair reader: what is trained is what is run."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given
from hypothesis import strategies as st

from penchant import ModelError
from penchant.data.pairs import LABELS, Pair, is_apart
from penchant.models.pairs import (
    HEADS,
    MAX_TOKENS,
    SECOND_TOKENS,
    WORDS,
    PairReader,
    encode_pairs,
    load_tokenizer,
    write_pair_weights,
)
from penchant.train.pairs import Network, temperature, tensors, train
from tests.conftest import REAL_MODELS

TOKENIZER = load_tokenizer()
PAIRS = [
    Pair("fix my python code", "When writing Python code, use tabs.", "relevance", 1),
    Pair("what's for lunch", "When writing Python code, use tabs.", "relevance", 0),
    Pair("Use tabs.", "Use spaces.", "relation", 1),
    Pair("Use tabs.", "Indent with tabs.", "relation", 0),
    Pair("hi\nHello!", "日本語で ok [SEP] thanks", "reaction", LABELS.index("praise")),
    Pair("word " * 500, "other " * 500, "relevance", 0),
    Pair("", "", "relevance", 1),
]


@pytest.fixture(scope="module")
def network() -> Network:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENCHANT_HOME", str(REAL_MODELS.parent))
        args = argparse.Namespace(seed=0, epochs=2, learning_rate=1e-4, batch_size=4, start=None)
        return train(lambda _: PAIRS * 4, TOKENIZER, args)


def test_the_runtime_gives_the_trained_networks_answers(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "pairs.gguf"
    write_pair_weights(path, network.tensors(), {"relevance": 2.0, "relation": 1.0, "reaction": 0.5})
    assert path.stat().st_size < 12e6
    reader = PairReader(path)
    for task, scale in (("relevance", 2.0), ("relation", 1.0), ("reaction", 0.5)):
        mine = [pair for pair in PAIRS if pair.task == task]
        with torch.no_grad():
            expected = network(task, tensors(TOKENIZER, mine)).float().numpy() / scale
        found = reader.read(task, [(pair.first, pair.second) for pair in mine])
        assert found == pytest.approx(expected, abs=0.05 + 0.02 * float(np.abs(expected).max()))
    assert reader.read("relation", []).shape == (0, 3)
    reader.close()
    with pytest.raises(ModelError, match="has been closed"):
        reader.read("relation", [("a", "b")])


def test_it_learns_what_it_is_shown(network: Network, real_models: None) -> None:
    with torch.no_grad():
        logits = network("relevance", tensors(TOKENIZER, PAIRS[:2]))
    assert logits[0, 0] > logits[1, 0]
    before = Network().encoder.get_input_embeddings().weight
    assert torch.equal(network.encoder.get_input_embeddings().weight, before)


def test_a_further_course_starts_from_weights_that_are_there(
    network: Network, tmp_path: Path, real_models: None
) -> None:
    path = tmp_path / "pairs.gguf"
    write_pair_weights(path, network.tensors(), dict.fromkeys(HEADS, 1.0))
    further = Network(path).eval()
    for task in ("relevance", "relation"):
        batch = tensors(TOKENIZER, [pair for pair in PAIRS if pair.task == task])
        with torch.no_grad():
            expected, found = (each(task, batch).numpy() for each in (network, further))
        assert found == pytest.approx(expected, abs=0.05 + 0.02 * float(np.abs(expected).max()))


def test_weights_of_another_encoder_are_refused(network: Network, tmp_path: Path) -> None:
    path, broken = tmp_path / "pairs.gguf", tmp_path / "broken.gguf"
    other = {**network.tensors(), WORDS: network.tensors()[WORDS] + 1}
    write_pair_weights(path, other, dict.fromkeys(HEADS, 1.0))
    with pytest.raises(ModelError, match="trained with another encoder"):
        PairReader(path)
    broken.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="reinstall penchant"):
        PairReader(broken)


@given(st.text(max_size=2000), st.text(max_size=2000))
def test_pairs_are_cut_to_fit(first: str, second: str) -> None:
    ((ids, border),) = encode_pairs(TOKENIZER, [(first, second)])
    start, end = TOKENIZER.token_to_id("[CLS]"), TOKENIZER.token_to_id("[SEP]")
    assert len(ids) <= MAX_TOKENS
    assert (ids[0], ids[border - 1], ids[-1]) == (start, end, end)
    one, two = ids[1 : border - 1], ids[border:-1]
    whole_one, whole_two = (TOKENIZER.encode(text).ids[1:-1] for text in (first, second))
    assert one == whole_one[len(whole_one) - len(one) :]
    assert two == whole_two[: len(two)]
    assert len(two) >= min(len(whole_two), SECOND_TOKENS)
    assert len(ids) == MAX_TOKENS or (one == whole_one and two == whole_two)


def test_the_temperature_undoes_overconfidence() -> None:
    torch.manual_seed(0)
    truth = torch.randn(4000, 1) * 1.5
    targets = (torch.rand(4000) < torch.sigmoid(truth[:, 0])).long()
    assert temperature("relevance", truth * 3, targets) == pytest.approx(3, rel=0.1)
    labels = torch.distributions.Categorical(logits=(many := torch.randn(4000, 3))).sample()
    assert temperature("relation", many * 2, labels) == pytest.approx(2, rel=0.15)


def test_what_is_kept_apart_does_not_change() -> None:
    names = [f"prof-{number}" for number in range(800)]
    assert [name for name in names[:40] if is_apart(name)] == ["prof-4", "prof-14", "prof-23", "prof-28", "prof-37"]
    assert 60 < sum(map(is_apart, names)) < 140
