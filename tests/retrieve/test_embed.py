"""Embedding models: the embedded one against the published library, a local folder, and a server."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from penchant import InputError, ModelError
from penchant.models.minilm import minilm_folder
from penchant.retrieve.embed import MiniLMEmbedder, load_embedder
from tests.conftest import REAL_MODELS
from tests.servers import serving

TEXTS = ["When writing Python code, use type hints.", "hi", "日本語のテスト " * 90, "", "\ud800 [SEP] \x07", "hi"]


@pytest.fixture(scope="module")
def folder() -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENCHANT_HOME", str(REAL_MODELS.parent))
        return minilm_folder()


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[MiniLMEmbedder]:
    monkeypatch.setattr("penchant.retrieve.embed.minilm_folder", lambda: folder)
    opened = MiniLMEmbedder()
    yield opened
    opened.close()


def test_the_vectors_are_those_of_the_published_library(embedder: MiniLMEmbedder, folder: Path) -> None:
    pytest.importorskip("sentence_transformers")
    published = load_embedder(str(folder))
    texts = [text for text in TEXTS if "[SEP]" not in text]  # which the published one reads as a special token
    assert embedder.embed(texts) == pytest.approx(published.embed(texts), abs=1e-5)


def test_neighbours_in_a_batch_do_not_matter(embedder: MiniLMEmbedder) -> None:
    together = embedder.embed(TEXTS)
    assert np.array_equal(together[1], together[5])
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    embedder._known.clear()
    assert together == pytest.approx(np.concatenate([embedder.embed([text]) for text in TEXTS]), abs=1e-5)
    assert embedder.embed([]).shape == (0, 384)


def test_threads_share_it_and_memory_is_bounded(embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penchant.retrieve.embed.CACHED_TEXTS", 5)
    expected = {text: embedder.embed([text])[0] for text in map(str, range(12))}
    wrong = []

    def work(offset: int) -> None:
        texts = [str((number + offset) % 12) for number in range(12)]
        for text, vector in zip(texts, embedder.embed(texts), strict=True):
            if not np.allclose(vector, expected[text], atol=1e-5):
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(embedder._known) == 5
    embedder.close()
    with pytest.raises(ModelError, match="has been closed"):
        embedder.embed(["new"])


def test_a_damaged_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"x" * 20)
    monkeypatch.setattr("penchant.retrieve.embed.minilm_folder", lambda: tmp_path)
    with pytest.raises(ModelError, match="remove this folder"):
        MiniLMEmbedder()


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match="cannot load"):
        load_embedder(str(tmp_path / "nowhere"))


@pytest.fixture
def server() -> Iterator[tuple[str, list[object]]]:
    """Serve what the test puts into the list: a body, or a status."""
    answers: list[object] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = answers[0](sent) if callable(answers[0]) else answers[0]
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            self.wfile.write(json.dumps({} if isinstance(answer, int) else answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        yield url, answers


def test_a_servers_vectors_become_unit_vectors_in_order(server: tuple[str, list[object]]) -> None:
    url, answers = server

    def answer(sent: dict[str, list[str]]) -> dict[str, object]:
        rows = [{"index": i, "embedding": [len(text), 3.0]} for i, text in enumerate(sent["input"])]
        return {"data": rows[::-1], "model": "m", "object": "list", "usage": {"prompt_tokens": 1, "total_tokens": 1}}

    asked: list[int] = []
    answers[:] = [lambda sent: asked.append(len(sent["input"])) or answer(sent)]
    embedder = load_embedder("any", base_url=url)
    many = embedder.embed(["x" * (1 + number % 7) for number in range(600)])
    assert (many.shape, asked) == ((600, 2), [256, 256, 88])  # servers take so many texts at once and no more
    assert many[7] == pytest.approx(many[0])
    assert many[599] == pytest.approx(many[4])
    assert embedder.embed(["four", ""]) == pytest.approx(np.array([[0.8, 0.6], [1 / 10**0.5, 3 / 10**0.5]]), abs=1e-6)
    assert embedder.embed([]).size == 0


@pytest.mark.parametrize(
    "answer",
    [
        400,
        {},
        {"data": []},
        {"data": [{"index": 0, "embedding": ["x"]}]},
        {"data": [{"index": 0, "embedding": [None]}]},
    ],
)
def test_a_server_that_gives_no_vectors_is_an_error(server: tuple[str, list[object]], answer: object) -> None:
    url, answers = server
    answers[:] = [answer]
    with pytest.raises(ModelError, match="no embeddings from the server"):
        load_embedder("any", base_url=url).embed(["text"])
    with pytest.raises(InputError, match="must begin with http"):
        load_embedder("any", base_url="localhost")
