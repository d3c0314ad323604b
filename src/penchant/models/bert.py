"""A BERT encoder as an OpenVINO graph, built from its tensors: no torch, no conversion.

Devlin et al., 2019 (arXiv 1810.04805); mean pooling and unit length as in Reimers and Gurevych, 2019 (1908.10084).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.runtime import openvino as ov

Tensors = Mapping[str, NDArray[np.float32]]
"""Under Hugging Face's names; a matrix has shape (outputs, inputs)."""

_EPSILON = 1e-12


def sentence_encoder(tensors: Tensors, heads: int) -> Any:
    """Build a model from ``input_ids`` and ``attention_mask``, int64 (rows, tokens), to unit vectors (rows, width)."""
    ops = ov.opset13
    ids, mask = (ops.parameter([-1, -1], np.int64, name=name) for name in ("input_ids", "attention_mask"))
    hidden = _Graph(tensors, heads).hidden(ids, mask)
    unit = ops.normalize_l2(_mean(hidden, mask), ops.constant([1]), _EPSILON, "max")
    return ov.Model([ops.result(unit)], [ids, mask], "sentence_encoder")


def pair_reader(tensors: Tensors, heads: int, outputs: Sequence[str]) -> Any:
    """Build a cross-encoder from ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64 (rows, tokens).

    Each output is a linear head, ``{name}.weight`` and ``{name}.bias``, on the first token's state beside the mean of
    all, shape (rows, outputs of the head).
    """
    ops = ov.opset13
    names = ("input_ids", "attention_mask", "token_type_ids")
    ids, mask, types = (ops.parameter([-1, -1], np.int64, name=name) for name in names)
    graph = _Graph(tensors, heads)
    hidden = graph.hidden(ids, mask, types)
    first = ops.gather(hidden, ops.constant(0), ops.constant(1))
    state = ops.concat([first, _mean(hidden, mask)], 1)
    results = [ops.result(graph.dense(state, name)) for name in outputs]
    return ov.Model(results, [ids, mask, types], "pair_reader")


def _mean(hidden: Any, mask: Any) -> Any:
    ops = ov.opset13
    weights = ops.unsqueeze(ops.convert(mask, "f32"), ops.constant([2]))
    total = ops.reduce_sum(ops.multiply(hidden, weights), ops.constant([1]))
    return ops.divide(total, ops.reduce_sum(weights, ops.constant([1])))


class _Graph:
    def __init__(self, tensors: Tensors, heads: int) -> None:
        self._ops, self._tensors, self._heads = ov.opset13, tensors, heads

    def hidden(self, ids: Any, mask: Any, types: Any = None) -> Any:
        """Return the last layer's states, (rows, tokens, width); without types, all tokens are of the first."""
        ops = self._ops
        count = ops.gather(ops.shape_of(ids), ops.constant([1]), ops.constant(0))
        places = ops.range(
            ops.constant(0, np.int64), ops.squeeze(count, ops.constant([0])), ops.constant(1, np.int64), "i64"
        )
        words = ops.gather(self._constant("embeddings.word_embeddings.weight"), ids, ops.constant(0))
        positions = ops.gather(self._constant("embeddings.position_embeddings.weight"), places, ops.constant(0))
        kinds = ops.constant(0) if types is None else types
        kind = ops.gather(self._constant("embeddings.token_type_embeddings.weight"), kinds, ops.constant(0))
        state = self._norm(ops.add(ops.add(words, positions), kind), "embeddings.LayerNorm")
        shown = ops.convert(ops.unsqueeze(ops.unsqueeze(mask, ops.constant([1])), ops.constant([1])), "boolean")
        layer = 0
        while f"encoder.layer.{layer}.output.dense.weight" in self._tensors:
            state = self._layer(state, shown, f"encoder.layer.{layer}")
            layer += 1
        return state

    def _layer(self, state: Any, shown: Any, name: str) -> Any:
        ops = self._ops
        query, key, value = (
            self._split(self.dense(state, f"{name}.attention.self.{part}")) for part in ("query", "key", "value")
        )
        mixed = ops.scaled_dot_product_attention(query, key, value, shown)
        rows = ops.transpose(mixed, ops.constant([0, 2, 1, 3]))
        joined = ops.reshape(rows, ops.constant([0, 0, -1]), special_zero=True)
        dense = self.dense(joined, f"{name}.attention.output.dense")
        state = self._norm(ops.add(state, dense), f"{name}.attention.output.LayerNorm")
        wide = ops.gelu(self.dense(state, f"{name}.intermediate.dense"), "erf")
        return self._norm(ops.add(state, self.dense(wide, f"{name}.output.dense")), f"{name}.output.LayerNorm")

    def _split(self, state: Any) -> Any:
        ops = self._ops
        width = self._tensors["embeddings.LayerNorm.weight"].shape[0] // self._heads
        parts = ops.reshape(state, ops.constant([0, 0, self._heads, width]), special_zero=True)
        return ops.transpose(parts, ops.constant([0, 2, 1, 3]))

    def dense(self, state: Any, name: str) -> Any:
        """Return a linear layer's output."""
        ops = self._ops
        product = ops.matmul(state, self._constant(f"{name}.weight"), transpose_a=False, transpose_b=True)
        return ops.add(product, self._constant(f"{name}.bias"))

    def _norm(self, state: Any, name: str) -> Any:
        ops = self._ops
        unit = ops.mvn(state, ops.constant([2]), normalize_variance=True, eps=_EPSILON, eps_mode="inside_sqrt")
        return ops.add(ops.multiply(unit, self._constant(f"{name}.weight")), self._constant(f"{name}.bias"))

    def _constant(self, name: str) -> Any:
        return self._ops.constant(self._tensors[name])
