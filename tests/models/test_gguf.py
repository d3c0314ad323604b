"""Weights survive a round trip, and the tokeniser is the one the weights were made with."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from penchant.models.gguf import build_tokenizer, read_metadata, read_tensors, write_tensors
from tests.tiny import SPECIAL, tiny_gguf, tiny_metadata, tiny_tensors


def test_tensors_and_metadata_survive_a_round_trip(tmp_path: Path) -> None:
    tensors = tiny_tensors(0)
    path = tiny_gguf(tmp_path / "a.gguf")
    read = read_tensors(path)
    assert list(read) == list(tensors)
    for name, tensor in tensors.items():
        assert read[name].shape == tensor.shape
        np.testing.assert_allclose(read[name], tensor, atol=1e-3, rtol=1e-3)
    found = read_metadata(path)
    assert {key: found[key] for key in tiny_metadata()} == tiny_metadata()


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0])
def test_quantised_matrices_are_close_and_norms_exact(tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    tensors = tiny_tensors(3, 0.01)
    write_tensors(tmp_path / "q.gguf", tensors, kind, tiny_metadata())
    read = read_tensors(tmp_path / "q.gguf")
    worst = 0.1 if kind is gguf.GGMLQuantizationType.Q4_0 else 0.01
    for name, tensor in tensors.items():
        error = np.linalg.norm(read[name] - tensor) / np.linalg.norm(tensor)
        assert error < (worst if tensor.ndim == 2 else 1e-7)


def test_the_tokeniser_splits_digits_and_loses_nothing(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(read_metadata(tiny_gguf(tmp_path / "a.gguf")))
    text = "in 2026:\n\n  naïve 日本 🙂 [{"
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode("[]").tokens == ["[", "]"]
    assert tokenizer.encode(" []").tokens == ["Ġ[]"]
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2]
    assert tokenizer.encode("<|im_end|>").ids == [2]
