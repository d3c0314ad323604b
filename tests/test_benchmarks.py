"""What the benchmarks draw: the samples of the ablations, and real chats that nothing was trained on."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from penchant.types import LabelledWindow
from tests.conftest import ROOT


def load(name: str) -> ModuleType:
    """Import a script of benchmarks/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def window(number: int, rule: bool, labeller: str = "annotator") -> LabelledWindow:
    rules = [{"condition": "general", "action": f"do {number}", "confidence": 0.9}] if rule else []
    turns = [{"role": "user", "content": f"message {number}"}]
    return LabelledWindow.model_validate(
        {"id": f"{labeller}-{number}", "turns": turns, "preferences": rules, "labeller": labeller}
    )


def test_larger_samples_hold_the_smaller_ones_at_the_same_share_of_rules() -> None:
    ablations = load("ablations")
    windows = [window(n, n % 2 == 0) for n in range(200)] + [window(n, n % 3 > 0, "synthesis") for n in range(50)]
    small = ablations.choose(ablations.Run(labelled=20), windows)
    large = ablations.choose(ablations.Run(labelled=100, synthetic=10), windows)
    assert {w.id for w in small} < {w.id for w in large}
    assert [sum(w.is_positive for w in some) for some in (small, large[:100])] == [12, 60]
    assert [w.labeller for w in large].count("synthesis") == 10
    assert sum(w.is_positive for w in large[100:]) == 6
    assert small == ablations.choose(ablations.Run(labelled=20), windows[::-1])  # whatever the order of the mix
    with pytest.raises(SystemExit, match="give a larger mix"):
        ablations.choose(ablations.Run(labelled=400), windows)


def test_joined_windows_add_no_labelled_ones_and_change_no_share() -> None:
    ablations = load("ablations")
    windows = [window(n, n % 2 == 0) for n in range(200)]
    drawn = ablations.choose(ablations.Run(labelled=40, joined=20), windows)
    chosen, joined = drawn[:40], drawn[40:]
    assert chosen == ablations.choose(ablations.Run(labelled=40), windows)
    texts = {w.turns[0].content for w in chosen}
    assert len(joined) == 20
    assert all({w.turns[0].content, w.turns[-1].content} <= texts for w in joined)
    assert sum(w.is_positive for w in joined) == 12


def test_no_real_chat_that_was_trained_on_is_drawn(tmp_path: Path) -> None:
    real_chat = load("real_chat")
    folder = tmp_path / "arena_hard" / "arena-hard-v2.0"
    folder.mkdir(parents=True)

    def draw(*prompts: str) -> list[str]:
        (folder / "question.jsonl").write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in prompts))
        return sorted(window[-1].content for window in real_chat.draw(tmp_path, {"arena_hard": 10}))

    new = [f"a new prompt, number {number}" for number in range(5)]
    distractors, trained = (sorted(real_chat.beginnings(path)) for path in (real_chat.DISTRACTORS, real_chat.LABELLED))
    distractor, labelled = distractors[0], next(text for text in trained if text not in distractors)
    assert draw(*new, distractor) == new
    with pytest.raises(SystemExit, match="trained on"):
        draw(*new, labelled)
