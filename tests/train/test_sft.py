"""Fine-tuning on a tiny model: it learns, resumes exactly, and its weights come back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from penchant import Extractor, Preference  # noqa: E402
from penchant.extract.chat import ChatEncoder  # noqa: E402
from penchant.models.gguf import build_tokenizer, read_metadata, read_tensors  # noqa: E402
from penchant.models.prepare import merge, prepare  # noqa: E402
from penchant.train.checkpoint import from_llama, to_llama  # noqa: E402
from penchant.train.pack import KINDS, pack  # noqa: E402
from penchant.train.sft import IGNORED, Run, Settings, answer_loss, load_examples, make_batches  # noqa: E402
from tests.tiny import tiny_gguf  # noqa: E402

RULE = {"condition": "general", "action": "be brief", "confidence": 0.9}
SETTINGS = Settings(epochs=3, learning_rate=3e-3, batch_tokens=600)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("base") / "base.gguf", scale=0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    records = [
        {"turns": [{"role": "user", "content": text}], "preferences": rules, "optional": []}
        for text, rules in [("be brief " * 3, [RULE]), ("what is two and two?", [])] * 4
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def make_run(base: Path, data: Path, output: Path, settings: Settings = SETTINGS) -> Run:
    return Run(base, output, settings, load_examples(data, ChatEncoder(build_tokenizer(read_metadata(base)), "card")))


def test_weights_survive_the_way_to_transformers_and_back(base: Path) -> None:
    tensors = read_tensors(base)
    back = from_llama(to_llama(tensors, read_metadata(base)), list(tensors))
    assert all(np.array_equal(back[name], tensors[name]) for name in tensors)


def test_only_the_answers_tokens_carry_loss(base: Path, data: Path) -> None:
    encoder = ChatEncoder(build_tokenizer(read_metadata(base)), "card")
    examples = load_examples(data, encoder)
    model = to_llama(read_tensors(base), read_metadata(base))
    _, count = answer_loss(model, examples)
    assert count == sum(len(example.ids) - example.question for example in examples)
    for example in examples:
        answer = encoder.decode(example.ids[example.question :])
        assert answer in ('{"preferences": []}', f'{{"preferences": [{json.dumps(RULE)}]}}')
    alone = [answer_loss(model, [example]) for example in examples]
    together, total = answer_loss(model, examples)
    expected = sum(loss.item() * count for loss, count in alone) / total
    assert together.item() == pytest.approx(expected, rel=0.02)  # padding changes nothing, bfloat16 a little
    assert IGNORED not in examples[0].ids


def test_batches_hold_every_example_once_and_fit() -> None:
    from penchant.train.sft import Example

    examples = [Example(list(range(size)), 1) for size in (5, 90, 30, 7, 7, 99, 50, 12)]
    batches = make_batches(examples, replace(SETTINGS, batch_tokens=100), epoch=0)
    assert sorted(map(id, (e for batch in batches for e in batch))) == sorted(map(id, examples))
    assert all(len(batch) * max(len(e.ids) for e in batch) <= 100 for batch in batches)
    assert batches == make_batches(examples, replace(SETTINGS, batch_tokens=100), epoch=0)
    others = [make_batches(examples, replace(SETTINGS, batch_tokens=100), epoch) for epoch in range(1, 9)]
    assert any(other != batches for other in others)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(base: Path, data: Path, tmp_path: Path) -> None:
    whole = make_run(base, data, tmp_path / "whole")
    whole.train()

    class KilledError(Exception):
        pass

    killed = make_run(base, data, tmp_path / "killed")
    step = killed.train_step

    def dying() -> tuple[float, float]:
        if killed.step == 4:
            raise KilledError
        return step()

    killed.train_step = dying  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        killed.train(save_every=0)
    make_run(base, data, tmp_path / "killed").train()
    assert (tmp_path / "killed" / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()
    last = f"epoch-{SETTINGS.epochs}.gguf"
    assert (tmp_path / "killed" / last).read_bytes() == (tmp_path / "whole" / last).read_bytes()


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # peft asks transformers for it
def test_lora_moves_only_the_matrices_it_adapts(base: Path, data: Path, tmp_path: Path) -> None:
    make_run(base, data, tmp_path / "run", replace(SETTINGS, epochs=2, lora_rank=2)).train()
    before, after = read_tensors(base), read_tensors(tmp_path / "run" / "epoch-2.gguf")
    for name in before:
        change = after[name] - before[name]
        if before[name].ndim == 1 or name == "token_embd.weight":
            assert not change.any()
        else:
            assert np.linalg.svd(change, compute_uv=False)[2] < 0.05 * np.linalg.norm(change) < 1


def test_a_model_learns_and_its_difference_runs_embedded(base: Path, data: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=40, learning_rate=1e-2)
    run = make_run(base, data, tmp_path / "run", settings)
    run.train()
    losses = [float(line.split(",")[1]) for line in (tmp_path / "run" / "log.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.1 < losses[0]
    trained = tmp_path / "run" / "epoch-40.gguf"
    difference, folder = tmp_path / "difference.gguf", tmp_path / "folder"
    pack(trained, base, difference, KINDS["Q8_0"])
    folder.mkdir()
    prepare(base, difference, folder)
    extractor = Extractor.load(model=str(folder))
    assert extractor.extract([{"role": "user", "content": "be brief " * 3}]).preferences == (Preference(**RULE),)
    assert extractor.extract([{"role": "user", "content": "what is two and two?"}]).preferences == ()

    merged = read_tensors(base)
    merge(merged, difference)
    expected = read_tensors(trained)
    assert np.array_equal(merged["token_embd.weight"], read_tensors(base)["token_embd.weight"])
    for name, tensor in expected.items():
        np.testing.assert_allclose(merged[name], tensor, atol=5e-3)
