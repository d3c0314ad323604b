"""Models that fail while they run, that have been closed, or that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from penchant import Extraction, Extractor, ModelError, Turn
from penchant.extract.answer import FORMS
from penchant.extract.chat import ChatEncoder
from penchant.extract.embedded import WEIGHTS, EmbeddedExtractor
from penchant.extract.encoder import Encoder
from penchant.models.prepare import prepare
from tests.servers import answering, completion
from tests.tiny import tiny_gguf

WINDOWS = [[Turn(role="user", content=text)] for text in ("hello", "be brief")]


class Failing:
    """A pipeline or an encoder's model that has no memory left."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def step(self) -> None:
        raise RuntimeError("Check failed at x.cpp:7:\nout of memory")

    def create_infer_request(self) -> Failing:
        return self

    def infer(self, _: object) -> None:
        raise MemoryError


def test_a_batch_at_which_the_model_fails_is_not_valid_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    prepare(tiny_gguf(tmp_path / "base.gguf"), None, tmp_path / "model")
    with EmbeddedExtractor(str(tmp_path / "model")) as extractor:
        expected = extractor.extract_batch(WINDOWS)
        with monkeypatch.context() as patch:
            generator = extractor._finder._generator
            patch.setattr(generator, "_pipeline", Failing(generator._pipeline))
            failed = Extraction(valid=False, error="the model failed: Check failed at x.cpp:7: out of memory")
            assert extractor.extract_batch(WINDOWS) == [failed] * 2
        assert extractor.extract_batch(WINDOWS) == expected
    with pytest.raises(ModelError, match="has been closed: load another"):
        extractor.extract_batch(WINDOWS)


def test_an_encoder_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(WEIGHTS / "encoder")
    monkeypatch.setattr(encoder, "_model", Failing(None))
    with pytest.raises(ModelError, match="the model failed: MemoryError"):
        encoder.probabilities(WINDOWS)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"embedded model in .*nowhere \(.*of an export its folder `embedded`"):
        Extractor.load(model=str(tmp_path / "nowhere"))


def test_a_tokenizer_without_chatml_is_refused() -> None:
    tokenizer = Tokenizer(WordLevel({"<|im_start|>": 0, "x": 1}, unk_token="x"))
    with pytest.raises(ModelError, match=r"has no <\|im_end\|>: give a model that chats in ChatML"):
        ChatEncoder(tokenizer, "card", FORMS["lines"])


def test_a_closed_endpoint_says_so_as_the_embedded_one_does() -> None:
    with answering(lambda *_: completion('{"preferences": []}')) as url:
        extractor = Extractor.load("endpoint", "m", base_url=url)
        assert extractor.extract_batch(WINDOWS) == [Extraction()] * 2
        extractor.close()
        with pytest.raises(ModelError, match="has been closed: load another"):
            extractor.extract_batch(WINDOWS)


def test_an_answer_cut_off_before_it_began_is_told_from_one_without_json() -> None:
    cut = {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}
    with answering(lambda *_: cut) as url, Extractor.load("endpoint", "m", base_url=url, max_tokens=9) as extractor:
        (result,) = extractor.extract_batch(WINDOWS[:1])
    assert result.error == "cut off after 9 tokens, before any answer: raise max_tokens"
