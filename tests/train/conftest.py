"""A tiny Qwen3 with random weights, a little data, and the shipped recipe cut down to them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from penchant.train.recipe import Recipe, make_recipe
from tests.conftest import ROOT

RULE = {"condition": "general", "action": "be brief", "confidence": 0.9}


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "qwen3"
    made = runpy.run_path(str(ROOT / "examples" / "tiny_qwen3.py"))
    tokenizer = made["make_tokenizer"]()
    made["make_model"](tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen windows of different lengths, half of them with a rule."""
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    records = [
        {
            "id": f"w-{number}",
            "turns": [{"role": "user", "content": ("be brief " if number % 2 else "what is two and two? ") * number}],
            "preferences": [RULE] if number % 2 else [],
            "optional": [],
        }
        for number in range(1, 17)
    ]
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


@pytest.fixture
def values(tiny_qwen3: Path, data: Path) -> dict[str, Any]:
    """The published recipe's values, for eight windows a batch of the tiny model."""
    published = yaml.safe_load((ROOT / "recipes" / "qwen3-0.6b-sft.yaml").read_text(encoding="utf-8"))
    return published | {
        "model": str(tiny_qwen3),
        "train": [str(data)],
        "evaluation": str(data),
        "num_train_epochs": 4,
        "learning_rate": 3e-3,
        "global_batch_size": 8,
        "per_device_batch_size": 4,
        "logging_steps": 1,
        "eval_steps": 4,
        "save_steps": 2,
        "bf16": False,
    }


@pytest.fixture
def recipe(values: dict[str, Any]) -> Recipe:
    return make_recipe(values, "test")
