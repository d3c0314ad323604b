"""Two tiny Qwen3 checkpoints made on the spot: one with random weights, one taught three dialogues by heart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penchant.extract.schema import serialise
from penchant.extract.window import build_messages
from penchant.types import Preference, Turn

Lesson = tuple[list[Turn], tuple[Preference, ...]]

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# The dialogues differ in length, so that a batch of them is padded.
LESSONS: list[Lesson] = [
    (
        [Turn(role="user", content="Keep it short, please.")],
        (Preference(condition="any answer", action="keep it short", confidence=0.9),),
    ),
    (
        [
            Turn(role="user", content="How do I sort a list?"),
            Turn(role="assistant", content="Call sorted() and pass it the list: it returns a new one."),
            Turn(role="user", content="Thanks! When you show me code, always add type hints."),
        ],
        (Preference(condition="code", action="add type hints", confidence=0.8),),
    ),
    ([Turn(role="user", content="What is the capital of Peru?")], ()),
]


@pytest.fixture(scope="session")
def lessons() -> list[Lesson]:
    return LESSONS


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows nothing."""
    folder = tmp_path_factory.mktemp("random-qwen3")
    tokenizer = _make_tokenizer()
    _save(_make_model(tokenizer), tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def taught_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that answers every dialogue of ``lessons`` as it should."""
    folder = tmp_path_factory.mktemp("taught-qwen3")
    tokenizer = _make_tokenizer()
    model = _make_model(tokenizer)
    _teach(model, tokenizer)
    _save(model, tokenizer, folder)
    return folder


def _make_tokenizer() -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=specials,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [text for turns, rules in LESSONS for text in (serialise(rules), *_contents(turns))]
    bpe.train_from_iterator(texts, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=["<|im_start|>"]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _make_model(tokenizer: Any) -> Any:
    torch = _torch()
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        initializer_range=0.2,  # wide enough for random weights to babble rather than to repeat one token
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return transformers.Qwen3ForCausalLM(config)


def _teach(model: Any, tokenizer: Any) -> None:
    """Overfit the answers, whose loss alone counts."""
    torch = _torch()
    examples = []
    for turns, rules in LESSONS:
        question = tokenizer.apply_chat_template(
            build_messages(turns), add_generation_prompt=True, return_dict=True
        ).input_ids
        answer = [*tokenizer(serialise(rules)).input_ids, tokenizer.eos_token_id]
        examples.append((question, answer))
    longest = max(len(question) + len(answer) for question, answer in examples)
    rests = [longest - len(question) - len(answer) for question, answer in examples]
    both = list(zip(examples, rests, strict=True))
    ids = torch.tensor([[*question, *answer, *[0] * rest] for (question, answer), rest in both])
    labels = torch.tensor([[*[-100] * len(question), *answer, *[-100] * rest] for (question, answer), rest in both])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(400):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 5e-3:
            return
    pytest.fail(f"the tiny model did not learn its lessons: loss {loss.item():.4f}")


def _torch() -> Any:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # for models this small more threads only wait for each other
    return torch


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _contents(turns: list[Turn]) -> list[str]:
    return [message["content"] for message in build_messages(turns)]
