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

import penchant.cli
from penchant.extract.window import SYSTEM_PROMPTS
from tests.cli.conftest import Command, Run
from tests.conftest import ROOT
from tests.train.conftest import data, tiny_qwen3, values  # noqa: F401 - fixtures


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run the command in an empty folder, in this process, which has paid for the imports."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Run:
        monkeypatch.setattr(sys, "argv", ["penchant", *arguments])
        with pytest.raises(SystemExit) as exit_:
            penchant.cli.main()
        return Run(int(exit_.value.code or 0), *capfd.readouterr())

    return run


def run_alone(*arguments: str) -> Run:
    """Run the command in a process of its own."""
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    line = [sys.executable, "-m", "penchant", *arguments]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    return Run(done.returncode, done.stdout, done.stderr)


def test_a_mix_is_trained_on_exported_and_run(command: Command, values: dict[str, object]) -> None:  # noqa: F811
    for name in ("data", "recipes"):
        Path(name).symlink_to(ROOT / name)
    plan = yaml.safe_load((ROOT / "recipes" / "mix-small.yaml").read_text())
    parts = {name: plan["parts"][name] for name in ("labelled", "synthesis")}
    parts["synthesis"]["count"] = 100
    Path("mix.yaml").write_text(yaml.safe_dump(plan | {"parts": parts}))
    mixed = command("data", "mix", "mix.yaml", "-o", "mix")
    assert mixed.code == 0, mixed.err
    assert "windows to train on" in mixed.out

    learns = {"train": [values["evaluation"]], "num_train_epochs": 40, "eval_steps": 50, "save_steps": 50}
    Path("recipe.yaml").write_text(yaml.safe_dump(values | learns))
    trained = run_alone("train", "recipe.yaml", "-o", "run")
    assert trained.code == 0, trained.err
    assert trained.out == "run/final\n"

    exported = command("export", "run", "-o", "model", "--sample", "4")
    assert exported.code == 0, exported.err
    assert re.findall(r"answers (\d+) of 4 windows", exported.out) == ["4", "4", "4", "4"]
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
    by_torch = command("extract", "d.jsonl", "--extractor", "transformers", "--model", "model")
    embedded = command("extract", "d.jsonl", "--model", "model/embedded")
    assert answer["preferences"] == [{"condition": "general", "action": "be brief", "confidence": 0.9}]
    assert json.loads(by_torch.out)["preferences"] == answer["preferences"], by_torch.err
    assert json.loads(embedded.out)["preferences"] == answer["preferences"], embedded.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "absent.yaml", "-o", "run"), "penchant: cannot read the recipe absent.yaml: "),
        (("export", ".", "-o", "out"), "penchant: . is no run of `penchant train`: it has no recipe.yaml"),
        (("data", "mix", "absent.yaml", "-o", "mix"), "penchant: cannot read the mix recipe absent.yaml: "),
        (("data", "synthesise", "-o", "s.jsonl"), "penchant: no such file: data/distractors.jsonl"),
        (("llama-factory", "read", ".", "x", "-o", "w.jsonl"), "penchant: "),
        (("llama-factory", "recipe", "absent.yaml", "-o", "r.yaml"), "penchant: "),
    ],
)
def test_errors_are_one_line(
    command: Command, arguments: tuple[str, ...], message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = command(*arguments)
    assert done.code == 1
    assert done.err.startswith(message), done.err
    assert done.err.count("\n") == 1
    assert caplog.text == ""  # in a process of its own, it would be on stderr
    assert list(tmp_path.iterdir()) == []


def test_imports_add_nothing_to_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_alone("export", ".", "-o", "out", "--form", "onnx")
    assert done.code == 1
    assert done.err.startswith("penchant: no form 'onnx': choose among safetensors, "), done.err
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_goes_to_llama_factory_and_back(command: Command, values: dict[str, object]) -> None:  # noqa: F811
    Path("recipe.yaml").write_text(yaml.safe_dump(values))
    written = command("llama-factory", "write", "recipe.yaml", "-o", "factory")
    assert written.code == 0, written.err
    back = command("llama-factory", "read", "factory", "penchant_train", "-o", "w.jsonl")
    assert back.code == 0, back.err
    assert back.out == "16 windows: w.jsonl\n"
    recipe = command("llama-factory", "recipe", "factory/train.yaml", "-o", "back.yaml")
    assert recipe.code == 0, recipe.err
    found = yaml.safe_load(Path("back.yaml").read_text())
    same = set(values) - {"model", "train", "evaluation", "save_total_limit"}
    assert {key: found[key] for key in same} == {key: values[key] for key in same}
