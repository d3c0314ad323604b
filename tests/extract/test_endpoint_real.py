"""The endpoint extractor against ``transformers serve``, a real server with a real (if tiny) model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from penchant.extract.base import Extractor
from penchant.extract.endpoint import EndpointExtractor
from penchant.types import Extraction, Preference, Turn

for package in ("torch", "transformers", "fastapi", "uvicorn"):
    pytest.importorskip(package)

Lesson = tuple[list[Turn], tuple[Preference, ...]]

SERVE = "from transformers.cli.transformers import main; main()"
START_LIMIT = 180
"""Seconds that the server may take to load."""


@pytest.fixture(scope="module")
def server(taught_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the taught model; return the base URL."""
    home = tmp_path_factory.mktemp("server-home")
    log = home / "server.log"
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-c", SERVE, "serve", str(taught_model)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
        environment = {**os.environ, "HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            if _is_healthy(process, f"http://127.0.0.1:{port}/health"):
                yield f"http://127.0.0.1:{port}/v1"
                return
        finally:
            process.kill()
            process.wait()
        if "address already in use" not in log.read_text(errors="replace"):  # else another program was faster
            break
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _is_healthy(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the server answers; say whether it does."""
    deadline = time.monotonic() + START_LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


def test_preferences_come_back_in_order(server: str, taught_model: Path, lessons: list[Lesson]) -> None:
    asked = [*lessons, *reversed(lessons)]
    with Extractor.load("endpoint", str(taught_model), base_url=server, concurrency=3, max_tokens=64) as extractor:
        results = list(extractor.extract_many([turns for turns, _ in asked]))
    assert results == [Extraction(preferences=rules) for _, rules in asked]


def test_a_model_that_is_not_served_is_reported(server: str, lessons: list[Lesson]) -> None:
    with EndpointExtractor("another-model", base_url=server, retries=0) as extractor:
        result = extractor.extract(lessons[0][0])
    assert not result.valid
    assert "400" in (result.error or "")


def test_an_answer_cut_by_the_token_limit_is_not_taken_for_no_preferences(
    server: str, taught_model: Path, lessons: list[Lesson]
) -> None:
    with EndpointExtractor(str(taught_model), base_url=server, retries=0, max_tokens=6) as extractor:
        result = extractor.extract(lessons[0][0])
    assert not result.valid
    assert result.error
    assert result.preferences == ()
