"""The pair reader: a small cross-encoder that we train, on OpenVINO.

all-MiniLM-L6-v2 with the word embeddings of the shipped encoder, so that they are shipped once. One network with three
heads: does a rule apply to a message (the reranker), is a newer rule the same as an older one or its contrary
(merging), what is a user's reaction to an answer (the reward).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from penchant.errors import ModelError
from penchant.models.bert import pair_reader
from penchant.models.gguf import Tensors, read_metadata, read_tensors, write_tensors
from penchant.runtime import openvino as ov
from penchant.runtime import release_signal_stack

_SHIPPED = Path(str(files("penchant.models") / "weights"))
WEIGHTS = _SHIPPED / "pairs.gguf"
TOKENIZER = _SHIPPED / "encoder" / "tokenizer.json"
"""What is shipped."""

ATTENTION_HEADS = 12
MAX_TOKENS = 192
"""Tokens of a pair; of a longer first text the end is read, of a longer second one the beginning."""

SECOND_TOKENS = 72
"""Tokens that are kept for the second text at least."""

WORDS = "embeddings.word_embeddings.weight"
"""The tensor that is the encoder's."""

HEADS = {"relevance": 1, "relation": 3, "reaction": 7}
"""Outputs of each head."""

SYMMETRIC = frozenset({"relation"})
"""Heads for which the order of the two texts means nothing: both are read, and the mean of their logits is taken."""

_BATCH = 32


class PairReader:
    """Reads pairs of texts; may be shared between threads.

    Args:
        path: what ``penchant.train.pairs`` wrote; None: the shipped weights.

    Raises:
        ModelError: the weights cannot be read, or were trained with other word embeddings.
    """

    def __init__(self, path: Path | None = None) -> None:
        path = path or WEIGHTS
        try:
            metadata, words = read_metadata(path), word_embeddings()
            self._temperatures: dict[str, float] = dict(zip(HEADS, metadata["penchant.temperatures"], strict=True))
            graph = pair_reader({**read_tensors(path), WORDS: words}, ATTENTION_HEADS, list(HEADS))
            exact = {"INFERENCE_PRECISION_HINT": "f32"}  # else its thresholds would mean another thing on another CPU
            self._model: Any = ov.Core().compile_model(graph, "CPU", exact)
            self._tokenizer = load_tokenizer()
        except Exception as error:  # the libraries raise all sorts
            raise ModelError(f"{path} cannot be read: reinstall penchant") from error
        if metadata["penchant.words"] != zlib.crc32(words.tobytes()):
            raise ModelError(f"{path} was trained with another encoder: train it again (penchant.train.pairs)")

    def read(self, head: str, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """Return a head's logits over its temperature, shape (pairs, outputs)."""
        if head in SYMMETRIC:
            both = self._read(head, [*pairs, *((second, first) for first, second in pairs)])
            return (both[: len(pairs)] + both[len(pairs) :]) / 2
        return self._read(head, pairs)

    def _read(self, head: str, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        rows = encode_pairs(self._tokenizer, pairs)
        found = np.zeros((len(rows), HEADS[head]))
        order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
        model = self._model
        if model is None:
            raise ModelError("this pair reader has been closed: load another")
        request = model.create_infer_request()
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            ids = np.zeros((len(batch), len(rows[batch[-1]][0])), np.int64)
            mask, types = np.zeros_like(ids), np.zeros_like(ids)
            for place, index in enumerate(batch):
                tokens, border = rows[index]
                ids[place, : len(tokens)], mask[place, : len(tokens)] = tokens, 1
                types[place, border : len(tokens)] = 1
            found[batch] = request.infer([ids, mask, types])[list(HEADS).index(head)]
        return found / self._temperatures[head]

    def chances(self, head: str, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """Return the calibrated probabilities of a head's outputs, of which one is true, shape (pairs, outputs)."""
        powers = self.read(head, pairs)
        powers = np.exp(powers - powers.max(1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
        return shares

    def close(self) -> None:
        """Free the model; it cannot be used afterwards."""
        self._model = None
        release_signal_stack()

    def __del__(self) -> None:
        """Free the model."""
        self.close()


def load_tokenizer() -> Tokenizer:
    """Return the tokenizer, which neither pads nor cuts, and takes special tokens in a text for text."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer


def word_embeddings() -> NDArray[np.float32]:
    """Return the word embeddings of the shipped encoder, shape (tokens, width)."""
    model = ov.Core().read_model(str(_SHIPPED / "encoder" / "encoder.xml"))
    matrices = [n for n in model.get_ordered_ops() if n.get_type_name() == "Constant" and len(n.shape) == 2]
    stored = max(matrices, key=lambda node: node.shape[0])
    (convert,) = stored.output(0).get_target_inputs()
    (multiply,) = convert.get_node().output(0).get_target_inputs()
    scale = multiply.get_node().input_value(1).get_node()
    words: NDArray[np.float32] = stored.data.astype(np.float32) * scale.data.astype(np.float32)
    return words


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], int]]:
    """Return the token ids of pairs, cut to ``MAX_TOKENS``, and where each second text begins."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))  # a query comes with many notes
    ids = {text: coded.ids for text, coded in zip(texts, tokenizer.encode_batch(texts), strict=True)}
    rows = []
    for first, second in pairs:
        start, *one, end = ids[first]
        two = ids[second][1:-1]
        room = MAX_TOKENS - 3
        two = two[: max(SECOND_TOKENS, room - len(one))]
        one = one[max(0, len(one) - (room - len(two))) :]
        rows.append(([start, *one, end, *two, end], len(one) + 2))
    return rows


def write_pair_weights(path: Path, tensors: Tensors, temperatures: dict[str, float]) -> None:
    """Write weights as ``PairReader`` reads them: int8 matrices, without the word embeddings."""
    metadata = {
        "general.architecture": "bert",
        "general.name": "penchant-pairs",
        "penchant.temperatures": [float(temperatures[head]) for head in HEADS],
        "penchant.words": zlib.crc32(tensors[WORDS].tobytes()),
    }
    kept = {name: tensor for name, tensor in tensors.items() if name != WORDS}
    write_tensors(path, kept, gguf.GGMLQuantizationType.Q8_0, metadata)
