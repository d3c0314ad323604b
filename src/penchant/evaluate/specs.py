"""Which extractors to compare: ``NAME=KIND:MODEL`` -> a loaded extractor."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import gguf

from penchant.errors import InputError, ModelError
from penchant.evaluate import loss
from penchant.evaluate.keywords import KeywordExtractor
from penchant.extract.answer import CARD, SHIPPED, ModelForm, write_form
from penchant.extract.base import Extractor
from penchant.extract.confidence import FILE, Point
from penchant.extract.transformers import TransformersExtractor
from penchant.extract.window import PromptName
from penchant.models.catalog import EMBEDDED
from penchant.models.gguf import read_metadata, read_tensors, write_tensors
from penchant.models.prepare import merge, prepare
from penchant.models.store import ModelStore


class Kind(StrEnum):
    """What an extractor can be."""

    keywords = "keywords"
    untuned = "untuned"
    embedded = "embedded"
    embedded_recall = "embedded-recall"
    transformers = "transformers"
    endpoint = "endpoint"


DEFAULT = ("keywords", "untuned", "embedded", "embedded-recall")
_WITHOUT_MODEL = (Kind.keywords, Kind.untuned)


@dataclass(frozen=True)
class Spec:
    """An extractor under the name that the report gives it.

    ``model`` is a prepared folder (``embedded`` and, at its other operating point, ``embedded-recall``; None: the
    shipped model) or a whole GGUF file (``embedded`` only: it has no calibration), a hub id or a folder
    (``transformers``; None: the published checkpoint), or the server's name for it (``endpoint``). ``endpoint`` is the
    server's URL; ``prompt`` None: the guide for a server's model, else the one that the model's folder names, or that
    the model card shows.
    """

    name: str
    kind: Kind
    model: str | None = None
    endpoint: str | None = None
    prompt: PromptName | None = None


@dataclass(frozen=True)
class Loaded:
    """An extractor, and how to load what measures its loss; None: torch has no weights to run."""

    extractor: Extractor
    load_answers: Callable[[], loss.AnswerModel] | None = None


def parse_specs(texts: Sequence[str], endpoint: str | None, prompt: PromptName | None) -> tuple[Spec, ...]:
    """Read ``[NAME=]KIND[:MODEL]`` specifications; the options go to the kinds that have them.

    Raises:
        InputError: an unknown kind, a missing, needless or unfit model, a name given twice, or an option nobody takes.
    """
    specs = tuple(_parse_spec(text, endpoint, prompt) for text in texts)
    names = [spec.name for spec in specs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"two extractors are called {twice[0]!r}: name them apart, NAME=KIND:MODEL")
    if endpoint and not any(spec.endpoint for spec in specs):
        raise InputError("--endpoint goes with an extractor of kind endpoint: --extractor endpoint:MODEL")
    if endpoint and "@" in endpoint:
        raise InputError("--endpoint must not hold a password, for the report names it: set PENCHANT_API_KEY")
    if prompt and not any(spec.prompt for spec in specs):
        raise InputError("--prompt goes with an extractor of kind transformers or endpoint: the others have their own")
    return specs


@contextmanager
def load(spec: Spec) -> Iterator[Loaded]:
    """Load an extractor; its temporary files stay until the block ends.

    Raises:
        ModelError: the model cannot be found, fetched or loaded.
        InputError: the endpoint's options cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="penchant-") as folder:
        loaded = _load(spec, Path(folder))
        with loaded.extractor:
            yield loaded


def _parse_spec(text: str, endpoint: str | None, prompt: PromptName | None) -> Spec:
    name, equals, rest = text.partition("=")
    if not equals or ":" in name:  # the first = belongs to the model
        name, rest = text, text
    word, _, model = rest.partition(":")
    if word not in list(Kind):
        raise InputError(f"no extractor {word!r} in {text!r}: choose {', '.join(Kind)}")
    kind = Kind(word)
    if not name.strip():
        raise InputError(f"the name in {text!r} is empty: give NAME=KIND:MODEL or KIND:MODEL")
    if model and kind in _WITHOUT_MODEL:
        raise InputError(f"{kind} takes no model: give {kind} instead of {rest!r}")
    if kind is Kind.embedded_recall and model.endswith(".gguf"):
        raise InputError(f"{rest!r}: a .gguf file has no {FILE}, and so no point recall: give a folder that has one")
    if kind is Kind.endpoint and not model:
        raise InputError("name the model that the server should run: --extractor endpoint:MODEL")
    url = endpoint if kind is Kind.endpoint else None
    own = prompt if kind in (Kind.transformers, Kind.endpoint) else None
    return Spec(name, kind, model or None, url, own)


def _load(spec: Spec, folder: Path) -> Loaded:
    match spec.kind:
        case Kind.keywords:
            return Loaded(KeywordExtractor())
        case Kind.untuned:
            return _load_weights(_base(folder), folder, CARD, "balanced")
        case Kind.embedded:
            return _load_embedded(spec.model, folder, "balanced")
        case Kind.embedded_recall:
            return _load_embedded(spec.model, folder, "recall")
        case Kind.transformers:
            extractor = TransformersExtractor(spec.model, prompt=spec.prompt)
            return Loaded(extractor, lambda: loss.from_extractor(extractor))
        case Kind.endpoint:
            prompt = spec.prompt or "guide"
            return Loaded(Extractor.load("endpoint", spec.model, base_url=spec.endpoint, prompt=prompt))


def _load_embedded(model: str | None, folder: Path, point: Point) -> Loaded:
    if model is None:
        return Loaded(Extractor.load("embedded", point=point), lambda: loss.from_gguf(_merge_shipped(folder), SHIPPED))
    if model.endswith(".gguf"):
        return _load_weights(Path(model), folder, SHIPPED, point)
    return Loaded(Extractor.load("embedded", model, point=point))


def _load_weights(weights: Path, folder: Path, form: ModelForm, point: Point) -> Loaded:
    prepared = folder / "prepared"
    prepared.mkdir()
    try:
        prepare(weights, None, prepared)
        write_form(prepared, form)
    except (OSError, ValueError, LookupError) as error:  # what the GGUF reader raises for a file that is none
        raise ModelError(f"cannot prepare {weights}: {error}: give the GGUF file of a whole SmolLM2 model") from error
    return Loaded(Extractor.load("embedded", str(prepared), point=point), lambda: loss.from_gguf(weights, form))


def _base(folder: Path) -> Path:
    return ModelStore.default().fetch_base(EMBEDDED, folder)


def _merge_shipped(folder: Path) -> Path:
    """Write the shipped model as whole weights, as preparing it does."""
    base, merged = _base(folder), folder / "merged.gguf"
    tensors = read_tensors(base)
    merge(tensors, EMBEDDED.difference_path)
    write_tensors(merged, tensors, gguf.GGMLQuantizationType.F16, read_metadata(base))
    return merged
