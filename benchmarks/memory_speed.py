"""How fast the memory is: the README's memory tables.

    pip install mem0ai
    python benchmarks/memory_speed.py [--sizes 1000 10000 100000] [--million] [--json FILE]

1. Side by side with mem0 (its embedded store, Qdrant on disk, the same embeddings; ready-made memories, so that its LLM
   is not asked): adding a memory, searching a user's memories (p50, p95), resident memory and disk, at each size with
   100 memories a user. Both stores are filled in bulk; then 200 memories are added and 200 searches run, one by one.
   Each system runs in a process of its own, which holds nothing of the other. Embeddings are unit vectors drawn by a
   hash of the text, so that the embedding model's time is in neither; it is measured apart.
2. With --million, a turn of the loop with 200 cards of the user and a million of 20,000 users in the file: ``prepare``
   and adding a card, without the models.
3. What the models take for a turn: embedding, reranking 64 notes, reading a reaction, comparing a rule with 8 cards.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from penchant.types import Card, Extraction, Preference, Source, note

if TYPE_CHECKING:
    from penchant.memory.memory import Memory

DIMENSIONS = 384
PER_USER = 100
TRIALS = 200


class HashEmbedder:
    """Draws a unit vector for each text; the same text has the same vector."""

    name = "hash"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (texts, 384)."""
        rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=DIMENSIONS) for text in texts]
        vectors = np.array(rows, np.float32).reshape(len(texts), DIMENSIONS)
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def wish(user: int, number: int) -> Preference:
    """Return a rule of a user."""
    return Preference(
        condition=f"when working on topic {number}", action=f"do thing {number} of {user}", confidence=0.9
    )


def card(user: int, number: int) -> Card:
    """Return a card of a user."""
    from penchant.memory.merge import new_card

    source = Source(session="s", turns=(0,), text=f"please do thing {number}", time=datetime.now(UTC))
    return new_card(f"user-{user}", wish(user, number), source)


def fill(path: Path, users: int, each: int) -> Memory:
    """Fill our store."""
    from penchant.learn.evidence import EvidenceLearner
    from penchant.memory.memory import Memory
    from penchant.memory.sqlite import SQLiteStore
    from penchant.memory.store import Changes
    from penchant.session import scrubber

    store, embedder = SQLiteStore(path), HashEmbedder()
    for user in tqdm(range(users), desc="filling penchant", mininterval=5):
        cards = [card(user, number) for number in range(each)]
        vectors = dict(zip((c.id for c in cards), embedder.embed([c.note for c in cards]), strict=True))
        store.write(f"user-{user}", 0, Changes(cards=cards, vectors=vectors, model=embedder.name))
    return Memory(store, embedder, scrub=scrubber(EvidenceLearner()))


def run_penchant(size: int, folder: Path) -> dict[str, float]:
    """Measure ours."""
    from penchant.retrieve.search import Retriever

    memory = fill(folder / "memory.db", size // PER_USER, PER_USER)
    retriever = Retriever(HashEmbedder(), transform=False)

    def add(user: int, number: int) -> None:
        source = Source(session="t", turns=(number,), text="please", time=datetime.now(UTC))
        memory.add(f"user-{user}", wish(user, PER_USER + number), source)

    def search(user: int, number: int) -> None:
        cards = memory.read(f"user-{user}")
        found = retriever.find(f"query {number}", cards.active, cards.vectors)
        check(len(found.cards))

    return measure(size // PER_USER, add, search, folder)


def run_mem0(size: int, folder: Path) -> dict[str, float]:
    """Measure mem0."""
    os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": str(folder / "mem0"), "OPENAI_API_KEY": "none"}
    from mem0 import Memory as Mem0

    store = {"path": str(folder / "qdrant"), "embedding_model_dims": DIMENSIONS, "on_disk": True}
    memory = Mem0.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": store},
            "history_db_path": str(folder / "history.db"),
        }
    )
    embedder = HashEmbedder()

    class Embedding:
        def embed(self, text: str, memory_action: str | None = None) -> list[float]:
            return [float(x) for x in embedder.embed([text])[0]]

        def embed_batch(self, texts: list[str], memory_action: str | None = None) -> list[list[float]]:
            return [self.embed(text) for text in texts]

    memory.embedding_model = Embedding()
    for user in tqdm(range(size // PER_USER), desc="filling mem0", mininterval=5):
        notes = [note(wish(user, number)) for number in range(PER_USER)]
        now = datetime.now(UTC).isoformat()
        payloads = [
            {"data": text, "user_id": f"user-{user}", "hash": str(zlib.crc32(text.encode())), "created_at": now}
            for text in notes
        ]
        ids = [str(uuid_of(user, number)) for number in range(PER_USER)]
        memory.vector_store.insert(vectors=embedder.embed(notes).tolist(), payloads=payloads, ids=ids)

    def add(user: int, number: int) -> None:
        memory.add(note(wish(user, PER_USER + number)), user_id=f"user-{user}", infer=False)

    def search(user: int, number: int) -> None:
        found = memory.search(f"query {number}", filters={"user_id": f"user-{user}"}, top_k=64, threshold=0.0)
        check(len(found["results"]))

    return measure(size // PER_USER, add, search, folder)


def check(found: int) -> None:
    """Raise an error if a search found nothing, whose time would say nothing."""
    if not found:
        raise RuntimeError("a search found nothing")


def uuid_of(user: int, number: int) -> Any:
    """Return an id that Qdrant takes."""
    from uuid import UUID

    return UUID(int=user * 1_000_000 + number)


def measure(
    users: int, add: Callable[[int, int], None], search: Callable[[int, int], None], folder: Path
) -> dict[str, float]:
    """Return milliseconds for adding and searching, and megabytes in memory and on disk."""
    rng = random.Random(0)
    results: dict[str, float] = {}
    for name, act in (("add", add), ("search", search)):
        act(0, 10_000)  # warm
        times = []
        for number in range(TRIALS):
            user = rng.randrange(users)
            started = time.perf_counter()
            act(user, number)
            times.append(1000 * (time.perf_counter() - started))
        results |= {f"{name} p50 ms": percentile(times, 50), f"{name} p95 ms": percentile(times, 95)}
    results["memory MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results["disk MB"] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    return results


def percentile(times: Sequence[float], q: int) -> float:
    """Return a percentile."""
    return statistics.quantiles(times, n=100, method="inclusive")[q - 1]


def run_million(users: int, each: int, mine: int) -> dict[str, float]:
    """Measure a turn of the loop in a file of very many cards."""
    from penchant.learn.evidence import EvidenceLearner
    from penchant.learn.reward import KeywordReward
    from penchant.loop import Personalizer
    from penchant.retrieve.search import Retriever
    from penchant.testing import ScriptedExtractor

    with tempfile.TemporaryDirectory() as folder:
        memory = fill(Path(folder) / "memory.db", users, each)
        for user, count in ((7, mine), (8, mine - TRIALS // 2)):
            for number in range(each, count):
                source = Source(session="t", turns=(number,), text="please", time=datetime.now(UTC))
                memory.add(f"user-{user}", wish(user, number), source)
        os.sync()  # the file that was just written must not be on its way to the disk meanwhile
        loop = Personalizer(
            memory,
            ScriptedExtractor(lambda _: Extraction()),
            Retriever(HashEmbedder()),
            EvidenceLearner(),
            KeywordReward(),
        )
        times: dict[str, list[float]] = {
            "prepare, the user's cards in memory": [],
            "prepare, first turn": [],
            "add": [],
        }
        for number in range(TRIALS):
            messages = [{"role": "user", "content": f"wrong again, explain topic {number % 50} in code"}]
            for name in ("prepare, first turn", "prepare, the user's cards in memory"):
                if name.endswith("first turn"):
                    memory._cache.clear()
                started = time.perf_counter()
                prepared = loop.prepare("user-7", "s", messages)
                times[name].append(1000 * (time.perf_counter() - started))
                prepared.learned.result()
                loop.complete("user-7", "s", "Here you are.")
            source = Source(session="u", turns=(number,), text="please", time=datetime.now(UTC))
            started = time.perf_counter()
            memory.add("user-8", wish(8, 1000 + number), source)  # who has 100 to 300 cards
            times["add"].append(1000 * (time.perf_counter() - started))
        loop.close()
        size = (Path(folder) / "memory.db").stat().st_size / 1e6
    rows = {f"{name} {q}": percentile(each, int(q[1:])) for name, each in times.items() for q in ("p50", "p95")}
    return rows | {"file MB": size}


def time_models() -> dict[str, float]:
    """Return milliseconds that the models take, one call after the other."""
    from penchant.models.pairs import PairReader
    from penchant.retrieve.embed import MiniLMEmbedder
    from penchant.retrieve.transform import variants

    embedder, reader = MiniLMEmbedder(), PairReader()
    ask = "how do I sort a list of dicts by two keys in Python? the second one descending, please"
    notes = [f"When writing language {number} code, use at most {number} lines." for number in range(64)]
    numbers = iter(range(1000))  # a text that was embedded just before is remembered
    calls: dict[str, Callable[[], object]] = {
        "embedding a message and its task": lambda: embedder.embed(variants(f"{next(numbers)}. {ask}")),
        "reranking 64 notes": lambda: reader.read("relevance", [(ask, text) for text in notes]),
        "reading a reaction": lambda: reader.read("reaction", [(f"{ask} Use sorted() with a key.", "no, in place!")]),
        "comparing a rule with 8 cards": lambda: reader.read("relation", [(text, notes[-1]) for text in notes[:8]]),
    }
    found = {}
    for name, call in calls.items():
        call()
        started = time.perf_counter()
        for _ in range(20):
            call()
        found[name] = 50 * (time.perf_counter() - started)
    return found


def in_a_process(system: str, size: int) -> dict[str, float]:
    """Run one system at one size in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--worker", system, str(size), folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Parse the command line, measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--million", action="store_true", help="also the turn in a file of a million cards")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--worker", nargs=3, metavar=("SYSTEM", "SIZE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        run = {"penchant": run_penchant, "mem0": run_mem0}[args.worker[0]]
        print(json.dumps(run(int(args.worker[1]), Path(args.worker[2]))))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {date.today()}\n")
    results: dict[str, Any] = {}
    for size in args.sizes:
        ours, theirs = (in_a_process(system, size) for system in ("penchant", "mem0"))
        results[str(size)] = {"penchant": ours, "mem0": theirs}
        print(f"**{size:,} memories**\n\n| | penchant | mem0 | ratio |\n| --- | --- | --- | --- |")
        for name, value in ours.items():
            print(f"| {name} | {value:.2f} | {theirs[name]:.2f} | {theirs[name] / value:.1f}x |")
        print()
    if args.million:
        results["million"] = run_million(users=20_000, each=50, mine=200)
        print("**200 cards of the user, a million in the file**\n\n| | |\n| --- | --- |")
        for name, value in results["million"].items():
            print(f"| {name}{'' if 'MB' in name else ' ms'} | {value:.2f} |")
        print()
    results["models ms"] = time_models()
    print("**The models, which are in none of these**\n\n| | |\n| --- | --- |")
    for name, value in results["models ms"].items():
        print(f"| {name} ms | {value:.1f} |")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
