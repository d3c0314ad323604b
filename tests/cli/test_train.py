"""The commands of docs/training.md on a tiny model, as a new user types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from penchant.extract.window import SYSTEM_PROMPTS
from tests.conftest import ROOT
from tests.train.conftest import data, tiny_qwen3, values  # noqa: F401 - fixtures


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "penchant", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_a_mix_is_trained_on_exported_and_run(
    values: dict[str, object],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data", "recipes"):
        Path(name).symlink_to(ROOT / name)
    plan = yaml.safe_load((ROOT / "recipes" / "mix-small.yaml").read_text())
    parts = {name: plan["parts"][name] for name in ("labelled", "synthesis")}
    parts["synthesis"]["count"] = 100
    Path("mix.yaml").write_text(yaml.safe_dump(plan | {"parts": parts}))
    mixed = run("data", "mix", "mix.yaml", "-o", "mix")
    assert mixed.returncode == 0, mixed.stderr
    assert "windows to train on" in mixed.stdout

    learns = {"train": [values["evaluation"]], "num_train_epochs": 40, "eval_steps": 50, "save_steps": 50}
    Path("recipe.yaml").write_text(yaml.safe_dump(values | learns))
    trained = run("train", "recipe.yaml", "-o", "run")
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout == "run/final\n"

    exported = run("export", "run", "-o", "model", "--sample", "4")
    assert exported.returncode == 0, exported.stderr
    assert re.findall(r"answers (\d+) of 4 windows", exported.stdout) == ["4", "4", "4", "4"]
    header = yaml.safe_load(Path("model/README.md").read_text().split("---")[1])
    assert header["pipeline_tag"] == "text-generation"

    # the model card's own snippet, and both extractors, give the same
    tokenizer = AutoTokenizer.from_pretrained("model")
    model = AutoModelForCausalLM.from_pretrained("model", dtype=torch.bfloat16)
    text = "be brief " * 3
    messages = [
        {"role": "system", "content": SYSTEM_PROMPTS["card"]},
        {"role": "user", "content": f"User: {text.strip()}"},
    ]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(prompt, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=512, do_sample=False)
    answer = json.loads(tokenizer.decode(output[0][inputs.input_ids.shape[-1] :], skip_special_tokens=True))
    Path("d.jsonl").write_text(json.dumps({"id": "d", "turns": [{"role": "user", "content": text}]}))
    by_torch = run("extract", "d.jsonl", "--extractor", "transformers", "--model", "model")
    embedded = run("extract", "d.jsonl", "--model", "model/embedded")
    assert answer["preferences"] == [{"condition": "general", "action": "be brief", "confidence": 0.9}]
    assert json.loads(by_torch.stdout)["preferences"] == answer["preferences"], by_torch.stderr
    assert json.loads(embedded.stdout)["preferences"] == answer["preferences"], embedded.stderr

    report = run("evaluate", "extraction", str(values["evaluation"]), "-o", "report", "-e", "nonsense")
    assert report.returncode == 1
    assert "nonsense" in report.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "absent.yaml", "-o", "run"), "penchant: cannot read the recipe absent.yaml: "),
        (("export", ".", "-o", "out"), "penchant: . is no run of `penchant train`: it has no recipe.yaml"),
        (("export", ".", "-o", "out", "--form", "onnx"), "penchant: no form 'onnx': choose among safetensors, "),
        (("data", "mix", "absent.yaml", "-o", "mix"), "penchant: cannot read the mix recipe absent.yaml: "),
        (("data", "synthesise", "-o", "s.jsonl"), "penchant: no such file: data/distractors.jsonl"),
        (("llama-factory", "read", ".", "x", "-o", "w.jsonl"), "penchant: "),
        (("llama-factory", "recipe", "absent.yaml", "-o", "r.yaml"), "penchant: "),
    ],
)
def test_errors_are_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(message), done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_goes_to_llama_factory_and_back(
    values: dict[str, object],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(yaml.safe_dump(values))
    written = run("llama-factory", "write", "recipe.yaml", "-o", "factory")
    assert written.returncode == 0, written.stderr
    back = run("llama-factory", "read", "factory", "penchant_train", "-o", "w.jsonl")
    assert back.returncode == 0, back.stderr
    assert back.stdout == "16 windows: w.jsonl\n"
    recipe = run("llama-factory", "recipe", "factory/train.yaml", "-o", "back.yaml")
    assert recipe.returncode == 0, recipe.stderr
    found = yaml.safe_load(Path("back.yaml").read_text())
    same = set(values) - {"model", "train", "evaluation", "save_total_limit"}
    assert {key: found[key] for key in same} == {key: values[key] for key in same}
