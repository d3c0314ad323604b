"""Where a run starts: the base as it is, or with what is shipped added to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from transformers import AutoTokenizer

from penchant.errors import ModelError
from penchant.models.gguf import read_tensors
from penchant.models.store import ModelStore
from penchant.train import base
from penchant.train.checkpoint import gguf_tensors
from penchant.train.recipe import SHIPPED, SMOLLM2
from tests.tiny import tiny_gguf, tiny_spec


def test_the_shipped_model_is_its_base_with_the_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, _ = tiny_spec(tmp_path)
    monkeypatch.setattr(base, "EMBEDDED", spec)
    monkeypatch.setattr(ModelStore, "default", lambda: ModelStore(tmp_path / "models"))
    monkeypatch.setattr(ModelStore, "fetch_base", lambda self, spec, folder: tiny_gguf(folder / "base.gguf"))
    shipped, _ = base.load_base(SHIPPED)
    before, _ = base.load_base(SMOLLM2)
    change = read_tensors(spec.difference_path)
    old = dict(gguf_tensors(before))
    for name, tensor in gguf_tensors(shipped):
        assert np.allclose(tensor, old[name] + change[name], atol=1e-6), name
    assert not torch.equal(shipped.get_input_embeddings().weight, before.get_input_embeddings().weight)
    assert base.smollm2_folder(SHIPPED) != base.smollm2_folder(SMOLLM2)
    ModelStore.default().remove(spec)
    assert not list((tmp_path / "models").glob("**/*.safetensors"))


def test_a_template_without_a_system_role_is_named(tiny_qwen3: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen3)
    for template, reason in (
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}",
            "no system",
        ),
        ("{{ messages[-1].content }}", "leaves out the system message"),
    ):
        tokenizer.chat_template = template
        copy = shutil.copytree(tiny_qwen3, tmp_path / str(len(reason)))
        tokenizer.save_pretrained(copy)
        with pytest.raises(ModelError, match=f"chat template cannot be used: .*{reason}"):
            base.load_base(str(copy))
