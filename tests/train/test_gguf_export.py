"""GGUF files of tiny models: others read them back, and OpenVINO decodes what transformers decodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from penchant.errors import InputError, ModelError  # noqa: E402
from penchant.models.gguf import build_tokenizer, read_metadata, read_tensors  # noqa: E402
from penchant.runtime import openvino, openvino_genai  # noqa: E402
from penchant.train.checkpoint import gguf_tensors, to_llama  # noqa: E402
from penchant.train.gguf_export import write_gguf  # noqa: E402
from tests.conftest import ROOT  # noqa: E402
from tests.tiny import tiny_gguf, tiny_metadata  # noqa: E402

F16, Q8_0 = GGMLQuantizationType.F16, GGMLQuantizationType.Q8_0
CHAT_TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
HOSTILE = [
    "",
    "   ",
    "in 2026:\r\n\n\t 1,234.5 don't WE'LL I'M",
    "naïve café 日本語 🙂👨‍👩‍👧 [{\u00a0\u200b",
    "<|im_start|>system\nx<|im_end|><think>y</think> <|fim_prefix|><|im_st",
    "½ ² x² ①② ٣٤",
    "\x00\x01\x7f",
    "[PAD431] <unk>",
]
DIGITS = pre_tokenizers.Digits(individual_digits=True)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)


def make_tokenizer(kind: str, specials: tuple[str, ...] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")) -> Any:
    """Train a byte-level BPE on the README; it splits text as the models of that kind do."""
    qwen = transformers.Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = {"smollm": pre_tokenizers.Sequence([DIGITS, GPT2]), "gpt-2": GPT2, "qwen2": qwen}[kind]
    bpe.normalizer = normalizers.NFC() if kind == "qwen2" else None
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([(ROOT / "README.md").read_text(encoding="utf-8")], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHAT_TEMPLATE
    )
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<think>", "</think>", "<|fim_prefix|>")])
    return tokenizer


def make_model(kind: str, tokenizer: Any, **changes: Any) -> Any:
    """Return a model with random weights; transformers takes every qwen3 GGUF to have heads of 128."""
    config_class, model_class = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    }[kind]
    options = {
        "vocab_size": len(tokenizer) + 5,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 128 if kind == "qwen3" else 32,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": [tokenizer.eos_token_id, tokenizer.pad_token_id],
        "pad_token_id": tokenizer.pad_token_id,
    }
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = model_class(config_class(**options | changes)).eval()
        for name, weight in model.named_parameters():
            if "norm" in name:
                torch.nn.init.uniform_(weight, 0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    torch.set_num_threads(1)  # for models this small more threads only wait for each other
    return make_tokenizer("qwen2")


def reload(path: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)


def decode_by_transformers(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    model.generation_config.eos_token_id = None
    outputs = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
        outputs.append(output[0, len(prompt) :].tolist())
    return outputs


def decode_by_openvino(path: Path, prompts: list[list[int]]) -> list[list[int]]:
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 1
    exact = {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
    pipeline = openvino_genai.ContinuousBatchingPipeline(path, scheduler, "CPU", exact, {})
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos = 16, True
    tensors = [openvino.Tensor(np.array([prompt], dtype=np.int64)) for prompt in prompts]
    results = pipeline.generate(tensors, [config] * len(prompts))
    return [list(result.m_generation_ids[0]) for result in results]


@pytest.mark.parametrize("matrix_type", [F16, Q8_0], ids=lambda kind: kind.name)
@pytest.mark.parametrize(("kind", "tied"), [("llama", True), ("llama", False), ("qwen3", True), ("qwen3", False)])
def test_transformers_and_openvino_read_the_same_model(
    tmp_path: Path, tokenizer: Any, kind: str, tied: bool, matrix_type: GGMLQuantizationType
) -> None:
    model = make_model(kind, tokenizer, tie_word_embeddings=tied)
    path = tmp_path / "model.gguf"
    write_gguf(model, tokenizer, path, matrix_type)
    assert list(tmp_path.iterdir()) == [path]

    back = reload(path)
    assert back.config.tie_word_embeddings is tied
    state, found = model.state_dict(), back.state_dict()
    assert set(found) == set(state)
    for name, tensor in state.items():
        if tensor.ndim == 1:
            assert torch.equal(found[name], tensor)
        elif matrix_type is F16:
            assert torch.equal(found[name], tensor.half().float())
        else:
            assert 0 < (found[name] - tensor).norm() < 0.01 * tensor.norm()

    prompts = [tokenizer(text).input_ids for text in ("be brief", "<|im_start|>user\nWhat is 12 x 3?<|im_end|>\n")]
    answers = decode_by_transformers(back, prompts)
    assert answers[0] != answers[1]
    assert decode_by_openvino(path, prompts) == answers


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_matrix_with_odd_rows_stays_float16(tmp_path: Path, tokenizer: Any, kind: str) -> None:
    path = tmp_path / "odd.gguf"
    model = make_model(kind, tokenizer, hidden_size=48, intermediate_size=64, head_dim=24, num_attention_heads=4)
    write_gguf(model, tokenizer, path, Q8_0)
    kinds = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(path).tensors}
    assert kinds["token_embd.weight"] == F16
    assert kinds["blk.0.attn_output.weight"] == kinds["blk.0.ffn_down.weight"] == Q8_0
    assert kinds["blk.0.attn_norm.weight"] == GGMLQuantizationType.F32
    prompt = tokenizer("be brief").input_ids
    assert len(decode_by_openvino(path, [prompt])[0]) == 16


@pytest.mark.parametrize("kind", ["qwen2", "gpt-2"])
def test_transformers_rebuilds_the_same_tokeniser(tmp_path: Path, kind: str) -> None:
    tokenizer = make_tokenizer(kind)
    write_gguf(make_model("llama", tokenizer), tokenizer, tmp_path / "model.gguf", F16)
    back = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for text in HOSTILE[:-1]:
        assert back(text).input_ids == tokenizer(text).input_ids
    assert (back.eos_token, back.pad_token) == (tokenizer.eos_token, tokenizer.pad_token)
    assert back.chat_template == CHAT_TEMPLATE


def test_we_rebuild_a_smollm_tokeniser(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("smollm")
    write_gguf(make_model("llama", tokenizer), tokenizer, tmp_path / "model.gguf", F16)
    back = build_tokenizer(read_metadata(tmp_path / "model.gguf"))
    for text in HOSTILE:
        if "think" not in text:  # build_tokenizer is for SmolLM2, which has control tokens only
            assert back.encode(text).ids == tokenizer(text).input_ids


def test_the_metadata_are_those_of_the_original(tmp_path: Path) -> None:
    original = tiny_gguf(tmp_path / "tiny.gguf")
    metadata = read_metadata(original)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(metadata),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        chat_template=metadata["tokenizer.chat_template"],
    )
    model = to_llama(read_tensors(original), metadata)
    (tmp_path / "again").mkdir()
    write_gguf(model, tokenizer, tmp_path / "again" / "tiny.gguf", F16)
    found = read_metadata(tmp_path / "again" / "tiny.gguf")
    assert {key: found[key] for key in tiny_metadata()} == tiny_metadata()
    again = read_tensors(tmp_path / "again" / "tiny.gguf")
    assert again.keys() == read_tensors(original).keys()
    for name, tensor in read_tensors(original).items():
        assert np.array_equal(again[name], tensor)


def test_token_types_and_special_tokens(tmp_path: Path, tokenizer: Any) -> None:
    write_gguf(make_model("qwen3", tokenizer), tokenizer, tmp_path / "new" / "model.gguf", F16)
    metadata = read_metadata(tmp_path / "new" / "model.gguf")
    tokens = metadata["tokenizer.ggml.tokens"]
    kinds = dict(zip(tokens, metadata["tokenizer.ggml.token_type"], strict=True))
    assert kinds["<|im_end|>"] == kinds["<|fim_prefix|>"] == gguf.TokenType.CONTROL
    assert kinds["<think>"] == gguf.TokenType.USER_DEFINED
    assert kinds["a"] == gguf.TokenType.NORMAL
    assert tokens[-5:] == [f"[PAD{row}]" for row in range(len(tokenizer), len(tokenizer) + 5)]
    assert kinds[tokens[-1]] == gguf.TokenType.UNUSED
    assert metadata["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    assert metadata["tokenizer.ggml.bos_token_id"] == tokenizer.pad_token_id  # known to the model alone
    assert metadata["tokenizer.ggml.add_bos_token"] is False
    assert metadata["tokenizer.ggml.pre"] == "qwen2"
    assert metadata["qwen3.attention.key_length"] == metadata["qwen3.attention.value_length"] == 128


def test_every_weight_has_a_name_of_its_own(tokenizer: Any) -> None:
    for kind in ("llama", "qwen3"):
        model = make_model(kind, tokenizer, tie_word_embeddings=False).bfloat16()
        tensors = list(gguf_tensors(model))
        assert len({name for name, _ in tensors}) == len(tensors) == len(model.state_dict())
        assert all(tensor.dtype == np.float32 for _, tensor in tensors)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("llama", {"attention_bias": True}, "no place for model.layers.0.self_attn.q_proj.bias"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ("qwen3", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "rope_type 'linear'"),
        ("qwen3", {"use_sliding_window": True, "max_window_layers": 1}, "use_sliding_window"),
        ("qwen3", {"vocab_size": 300}, "do not belong together"),
    ],
)
def test_a_model_that_the_file_cannot_hold_is_refused(
    tmp_path: Path, tokenizer: Any, kind: str, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        write_gguf(make_model(kind, tokenizer, **changes), tokenizer, tmp_path / "model.gguf", F16)
    assert list(tmp_path.iterdir()) == []


def test_another_architecture_or_type_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    config = transformers.GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2)
    with pytest.raises(ModelError, match=r"'gpt2'.* take llama or qwen3"):
        write_gguf(transformers.GPT2LMHeadModel(config), tokenizer, tmp_path / "model.gguf", F16)
    with pytest.raises(InputError, match=r"Q4_0.* choose F16 or Q8_0"):
        write_gguf(make_model("llama", tokenizer), tokenizer, tmp_path / "model.gguf", GGMLQuantizationType.Q4_0)


@pytest.mark.parametrize(
    "part",
    [
        {"pre_tokenizer": pre_tokenizers.Whitespace()},
        {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)},
        {"pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"), GPT2])},
        {"normalizer": normalizers.Lowercase()},
    ],
)
def test_a_tokeniser_that_splits_otherwise_is_refused(tmp_path: Path, part: dict[str, Any]) -> None:
    tokenizer = make_tokenizer("gpt-2")
    for name, value in part.items():
        setattr(tokenizer.backend_tokenizer, name, value)
    with pytest.raises(ModelError, match="splits text as smollm, qwen2, gpt-2"):
        write_gguf(make_model("llama", tokenizer), tokenizer, tmp_path / "model.gguf", F16)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.mlp.up_proj.weight"])
def test_weights_of_a_diverged_run_are_refused(tmp_path: Path, tokenizer: Any, name: str, value: float) -> None:
    model = make_model("llama", tokenizer)
    model.state_dict()[name].flatten()[7] = value
    with pytest.raises(ModelError, match=r"(output_norm|blk\.1\.ffn_up)\.weight holds NaN"):
        write_gguf(model, tokenizer, tmp_path / "model.gguf", F16)
    assert list(tmp_path.iterdir()) == []


def test_a_crash_leaves_the_earlier_file(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(make_model("llama", tokenizer), tokenizer, path, F16)
    before = path.read_bytes()

    def full(self: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
        with pytest.raises(OSError, match="no space"):
            write_gguf(make_model("qwen3", tokenizer), tokenizer, path, F16)
    assert path.read_bytes() == before
    write_gguf(make_model("qwen3", tokenizer), tokenizer, path, F16)
    assert read_metadata(path)["general.architecture"] == "qwen3"
    assert list(tmp_path.iterdir()) == [path]
