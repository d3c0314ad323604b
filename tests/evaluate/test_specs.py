"""What ``NAME=KIND:MODEL`` means, and loading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from penchant.errors import InputError, ModelError
from penchant.evaluate.specs import DEFAULT, Kind, Spec, load, parse_specs
from penchant.extract.base import Extractor
from penchant.testing import ScriptedExtractor
from penchant.types import Extraction


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("keywords", Spec("keywords", Kind.keywords)),
        ("base=untuned", Spec("base", Kind.untuned)),
        ("embedded", Spec("embedded", Kind.embedded)),
        (
            "embedded:runs/one/epoch-3.gguf",
            Spec("embedded:runs/one/epoch-3.gguf", Kind.embedded, "runs/one/epoch-3.gguf"),
        ),
        ("one=embedded:a=b/c", Spec("one", Kind.embedded, "a=b/c")),
        ("embedded:a=b/c", Spec("embedded:a=b/c", Kind.embedded, "a=b/c")),
        ("ours v2=transformers:org/name", Spec("ours v2", Kind.transformers, "org/name", None, "reference")),
        ("big=endpoint:llama3:70b", Spec("big", Kind.endpoint, "llama3:70b", "http://h/v1", "reference")),
    ],
)
def test_a_spec_is_read(text: str, spec: Spec) -> None:
    server = [] if spec.kind is Kind.endpoint else ["other=endpoint:other"]  # somebody must take the options
    assert parse_specs([text, *server], "http://h/v1", "reference")[0] == spec


def test_the_default_is_three_extractors() -> None:
    assert [spec.name for spec in parse_specs(DEFAULT, None, None)] == [
        "keywords",
        "untuned",
        "embedded",
        "embedded-recall",
    ]


@pytest.mark.parametrize(
    ("texts", "endpoint", "prompt", "message"),
    [
        (
            ["gpt"],
            None,
            None,
            "no extractor 'gpt' in 'gpt': choose keywords, untuned, embedded, embedded-recall, transformers, endpoint",
        ),
        (["x="], None, None, "no extractor ''"),
        ([""], None, None, "no extractor ''"),
        (["=keywords"], None, None, "the name in '=keywords' is empty"),
        (["keywords:x"], None, None, "keywords takes no model"),
        (["a=untuned:x"], None, None, "untuned takes no model"),
        (["r=embedded-recall:a/b.gguf"], None, None, "'embedded-recall:a/b.gguf': a .gguf file has no confidence.json"),
        (["endpoint"], None, None, "name the model"),
        (["keywords", "keywords"], None, None, "two extractors are called 'keywords'"),
        (["a=keywords", "a=untuned"], None, None, "two extractors are called 'a'"),
        (["keywords"], "http://h/v1", None, "--endpoint goes with"),
        (["keywords"], None, "card", "--prompt goes with"),
        (["endpoint:m"], "http://me:secret@h/v1", None, "must not hold a password"),
    ],
)
def test_a_wrong_spec_is_explained(texts: list[str], endpoint: str | None, prompt: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_specs(texts, endpoint, prompt)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def fake_load(kind: str, model: str | None = None, **options: Any) -> Extractor:
        extractor = ScriptedExtractor(lambda _: Extraction())
        calls.append((kind, model, options, extractor))
        return extractor

    monkeypatch.setattr(Extractor, "load", staticmethod(fake_load))
    return calls


def test_a_servers_model_is_asked_with_the_guide_unless_told_otherwise(loads: list[Any]) -> None:
    for prompt, expected in ((None, "guide"), ("card", "card")):
        (spec,) = parse_specs(["endpoint:m"], "http://h/v1", prompt)  # type: ignore[arg-type]
        with load(spec) as loaded:
            assert loaded.load_answers is None
            assert not loads[-1][3].closed
        assert loads[-1][:3] == ("endpoint", "m", {"base_url": "http://h/v1", "prompt": expected})
        assert loads[-1][3].closed


def test_a_prepared_folder_is_loaded_as_it_is_and_has_no_loss(loads: list[Any]) -> None:
    with load(Spec("mine", Kind.embedded, "some/folder")) as loaded:
        assert loaded.load_answers is None
    assert loads[0][:3] == ("embedded", "some/folder", {"point": "balanced"})


@pytest.mark.parametrize("content", [None, b"", b"GGUF", b"not a model at all" * 10])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.gguf"), load(Spec("bad", Kind.embedded, str(path))):
        pass
