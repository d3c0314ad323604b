"""How fast the published recipe trains: tokens per second and MFU on one GPU, against TRL's defaults.

    pip install trl liger-kernel flash-attn     # and penchant[train]
    python benchmarks/train_throughput.py

A randomly initialised Qwen3-0.6B (its real configuration), random tokens, windows as long as the shipped training
data's. Each way takes STEPS updates of 128 windows after WARM_UP of them. Tokens are the windows' own, padding not
counted. MFU: 6 FLOPs a parameter outside the embedding and token, the attention's, and the language-model head's where
it runs, against --peak. A way whose library is missing is left out, and says so.

--tiny checks the script itself on any machine: a model of two layers, batches of 8.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import Qwen3Config, Qwen3ForCausalLM, TrainerCallback

from penchant.data.records import load_windows
from penchant.extract.schema import serialise
from penchant.extract.window import render_window
from penchant.train.examples import IGNORED
from penchant.train.recipe import Recipe, read_recipe
from penchant.train.sft import make_trainer
from penchant.types import LabelledWindow

ROOT = Path(__file__).parent.parent
WARM_UP, STEPS = 5, 20
QWEN3 = Qwen3Config(
    vocab_size=151936,
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=40960,
    rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    tie_word_embeddings=True,
)
TINY = Qwen3Config(
    vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=32, tie_word_embeddings=True,
)  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "ours, as the recipe stands": {},
    "ours, padding-free, flash attention": {"batching": "padding-free", "attn_implementation": "flash_attention_2"},
    "ours, the same with Liger kernels": {
        "batching": "padding-free",
        "attn_implementation": "flash_attention_2",
        "use_liger_kernel": True,
    },
    "ours, the same compiled": {
        "batching": "padding-free",
        "attn_implementation": "flash_attention_2",
        "use_liger_kernel": True,
        "torch_compile": True,
    },
}


class Stopwatch(TrainerCallback):
    """Time the updates after the warm-up, and count their tokens."""

    def __init__(self, updates: int) -> None:
        self._updates = updates
        self.seconds = self.tokens = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start or stop the clock."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if state.global_step == WARM_UP:
            self._start, self._seen = time.perf_counter(), state.num_input_tokens_seen
        elif state.global_step == self._updates:
            self.seconds = time.perf_counter() - self._start
            self.tokens = state.num_input_tokens_seen - self._seen
            control.should_training_stop = True


def make_rows(count: int, vocabulary: int) -> Dataset:
    """Draw random windows with the lengths of the shipped ones (4 bytes a token, 60 for the prompt)."""
    rng = np.random.default_rng(0)
    windows = load_windows(ROOT / "data" / "labelled" / "train.jsonl", LabelledWindow)
    sizes = [(60 + len(render_window(w.turns).encode()) // 4, len(serialise(w.rules)) // 4) for w in windows]
    rows = []
    for question, answer in (sizes[i] for i in rng.integers(len(sizes), size=count)):
        ids = rng.integers(vocabulary, size=question + answer).tolist()
        labels = [IGNORED] * question + ids[question:]
        rows.append({"input_ids": ids, "labels": labels, "length": len(ids)})
    return Dataset.from_list(rows)


def flops_per_token(config: Qwen3Config, length: float, answer_share: float) -> float:
    """Return the FLOPs of a training step for each token: forward and backward, causal attention."""
    heads = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    layer = config.hidden_size * (2 * heads + 2 * kv + 3 * config.intermediate_size)
    head = config.hidden_size * config.vocab_size * answer_share
    attention = heads * length  # 2 products x 2 FLOPs x half of the square, for each of the `heads` channels
    return 6 * (config.num_hidden_layers * layer + head) + 3 * 2 * config.num_hidden_layers * attention


def run_ours(recipe: Recipe, config: Qwen3Config, rows: Dataset, folder: Path) -> Stopwatch:
    """Train by penchant's trainer."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM._from_config(config, attn_implementation=recipe.attn_implementation)
    trainer = make_trainer(recipe, folder, model, 0, rows, None)
    return timed(trainer)


def run_trl(recipe: Recipe, config: Qwen3Config, rows: Dataset, folder: Path) -> Stopwatch:
    """Train by TRL's SFTTrainer with its defaults; only the batch is the recipe's."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    words = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="b"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="b", pad_token="a")
    at_once, accumulation = recipe.accumulation(1)
    args = SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=accumulation,
        include_num_input_tokens_seen="non_padding",
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
    )
    plain = rows.select_columns(["input_ids", "labels"])
    return timed(SFTTrainer(model, args, train_dataset=plain, processing_class=tokenizer))


def timed(trainer: Any) -> Stopwatch:
    """Train until the stopwatch says stop."""
    watch = Stopwatch(WARM_UP + STEPS)
    trainer.add_callback(watch)
    trainer.train()
    return watch


def ways(recipe: Recipe) -> Iterator[tuple[str, Callable[[Qwen3Config, Dataset, Path], Stopwatch]]]:
    """Yield what is compared."""
    yield "TRL's defaults", lambda *args: run_trl(recipe, *args)
    for name, changes in WAYS.items():
        changed = recipe.model_copy(update=changes)
        yield name, lambda *args, changed=changed: run_ours(changed, *args)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak", type=float, default=989.0, help="the GPU's dense bfloat16 TFLOP/s (H100 SXM: 989)")
    parser.add_argument("--tiny", action="store_true", help="check the script on any machine")
    args = parser.parse_args()
    recipe = read_recipe(ROOT / "recipes" / "qwen3-0.6b-sft.yaml", ["save_steps=100000", "logging_steps=10"])
    config = TINY if args.tiny else QWEN3
    if args.tiny:
        recipe = recipe.model_copy(update={"global_batch_size": 8, "per_device_batch_size": 4, "bf16": False})
    rows = make_rows((WARM_UP + STEPS + 1) * recipe.global_batch_size, config.vocab_size)
    lengths = np.array(rows["length"])
    answers = np.mean([sum(label != IGNORED for label in labels) for labels in rows["labels"]]) / lengths.mean()
    cost = flops_per_token(config, (lengths**2).mean() / lengths.mean(), answers)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{device}, torch {torch.__version__}, {date.today()}; {lengths.mean():.0f} tokens a window\n")
    print("| way | tokens/s | MFU |\n| --- | --- | --- |")
    for name, run in ways(recipe):
        with tempfile.TemporaryDirectory() as folder:
            try:
                watch = run(config, rows, Path(folder))
            except (ImportError, RuntimeError, ValueError) as error:
                print(f"| {name} | not run: {str(error).splitlines()[0]} | |", flush=True)
                continue
        speed = watch.tokens / watch.seconds
        print(f"| {name} | {speed:,.0f} | {speed * cost / (args.peak * 1e12):.1%} |", flush=True)


if __name__ == "__main__":
    main()
