"""What training added: the difference that is shipped gives the trained weights back."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from penchant.models.gguf import read_tensors, write_tensors
from penchant.models.prepare import merge
from penchant.train.pack import KINDS, pack
from tests.tiny import tiny_gguf, tiny_metadata, tiny_tensors


@pytest.mark.parametrize(("kind", "error"), [("F16", 1e-4), ("Q8_0", 2e-4), ("Q5_0", 2e-3)])
def test_base_and_difference_are_the_trained_weights(tmp_path: Path, kind: str, error: float) -> None:
    base = tiny_gguf(tmp_path / "base.gguf", scale=0.1)
    change = tiny_tensors(seed=7, scale=0.01)
    tensors = read_tensors(base)
    moved = {name: tensor + change[name] * ("attn_q" in name) for name, tensor in tensors.items()}
    write_tensors(tmp_path / "trained.gguf", moved, gguf.GGMLQuantizationType.F16, tiny_metadata())
    pack(tmp_path / "trained.gguf", base, tmp_path / "difference.gguf", KINDS[kind])

    packed = read_tensors(tmp_path / "difference.gguf")
    assert set(packed) == {name for name in tensors if "attn_q" in name}  # what did not move is not shipped
    merged = read_tensors(base)
    merge(merged, tmp_path / "difference.gguf")
    trained = read_tensors(tmp_path / "trained.gguf")
    for name in merged:
        np.testing.assert_allclose(merged[name], trained[name], atol=error)
    assert max(abs(merged[name] - trained[name]).max() for name in packed) > 0
