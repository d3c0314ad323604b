"""The pair reader's model; what it reads is tested where it is trained (tests/train/test_pairs.py)."""

from __future__ import annotations

from typing import Any

import pytest

from penchant.models import pairs
from penchant.runtime import openvino as ov


def test_it_computes_alike_on_every_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Core(ov.Core):  # type: ignore[misc]
        def compile_model(self, *args: Any) -> Any:
            asked.append(args[1:])
            return super().compile_model(*args)

    monkeypatch.setattr(ov, "Core", Core)
    pairs.PairReader().close()
    assert asked == [("CPU", {"INFERENCE_PRECISION_HINT": "f32"})]
