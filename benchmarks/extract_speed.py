"""How fast the embedded extractor is against the model card's snippet: the README's speed table.

    python benchmarks/extract_speed.py [--json FILE]

The same fine-tuned weights run (a) as the published model card's usage snippet does: transformers `generate`, one
window at a time, one greedy answer, in float32 and, where the processor computes it fast, in bfloat16, and (b) by
Penchant: with confidence and evidence for each window that passes the gate, as is the default, and without the gate. In
one process, one after the other, on the same windows: every third of dev as it is, and a mix of 10% windows with
preferences and 90% without, as real traffic has it. Penchant's windows per second are those of one call with all
windows, twice over, as a long file has them; the copies begin differently, so that no part of one is remembered
for another. The snippet's do not depend on how many windows there are. The gate is timed alone, too, one window of the
mix at a time.
Memory and start-up are measured in processes of their own. Needs: pip install 'penchant[train]'.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path

from tqdm import tqdm

from penchant import Extraction, Extractor, Turn
from penchant.extract.answer import SHIPPED
from penchant.extract.embedded import WEIGHTS
from penchant.extract.encoder import Encoder
from penchant.extract.window import build_messages
from penchant.models.catalog import EMBEDDED
from penchant.models.store import ModelStore

DEV = Path(__file__).parent.parent / "data" / "labelled" / "dev.jsonl"
Window = list[Turn]
WARM_UP: Window = [Turn(role="user", content="Always answer in one sentence, please. What is a monad?")]


@dataclass(frozen=True)
class Timing:
    """What one way of running took on one set of windows."""

    per_second: float
    latencies: list[float]
    """Seconds for each window on its own."""
    results: list[Extraction]

    def percentile(self, q: int) -> float:
        """Return a latency percentile in milliseconds."""
        return 1000 * statistics.quantiles(self.latencies, n=100, method="inclusive")[q - 1]


def read_windows() -> tuple[list[Window], list[Window]]:
    """Return every third dev window, and dev's 80 windows without a preference with 9 that have one among them."""
    records = [json.loads(line) for line in DEV.read_text(encoding="utf-8").splitlines()]
    turns = [[Turn(**turn) for turn in record["turns"]] for record in records]
    nothing = [t for t, r in zip(turns, records, strict=True) if not r["preferences"] and not r["optional"]]
    something = [t for t, r in zip(turns, records, strict=True) if r["preferences"]]
    mixed = nothing[:]
    for index in range(9):
        mixed.insert(index * 10, something[index * len(something) // 9])
    return turns[::3], mixed


def snippet(folder: Path, dtype: str) -> Callable[[Window], Extraction]:
    """Return the model card's usage snippet as a function."""
    import torch  # here, so that a process that measures Penchant alone does not hold it
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)

    def run(window: Window) -> Extraction:
        messages = build_messages(window, SHIPPED.prompt)
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            outputs = model.generate(**inputs, max_new_tokens=512, do_sample=False)
        text = tokenizer.decode(outputs[0][inputs.input_ids.shape[-1] :], skip_special_tokens=True)
        return SHIPPED.answer_form.read(text)

    return run


def time_singly(run: Callable[[Window], Extraction], windows: Sequence[Window], name: str) -> Timing:
    """Run one window after the other."""
    run(WARM_UP)
    latencies, results = [], []
    for window in tqdm(windows, desc=name, disable=None):
        started = time.perf_counter()
        results.append(run(window))
        latencies.append(time.perf_counter() - started)
    return Timing(len(windows) / sum(latencies), latencies, results)


def marked(window: Window, copy: int) -> Window:
    """Return a window whose first turn begins with a number of its own."""
    first, *others = window
    return [first.model_copy(update={"content": f"{copy + 1}. {first.content}"}), *others]


def time_embedded(extractor: Extractor, windows: Sequence[Window]) -> Timing:
    """Take latencies one by one and the throughput from one call with all windows, twice over."""
    single = time_singly(extractor.extract, windows, "penchant, one by one")
    copies = [marked(window, copy) for copy in range(2) for window in windows]
    started = time.perf_counter()
    results = list(extractor.extract_many(copies))
    return Timing(len(results) / (time.perf_counter() - started), single.latencies, single.results)


def gate_alone() -> Callable[[Window], Extraction]:
    """Return the gate as a function; it extracts nothing."""
    encoder = Encoder(WEIGHTS / "encoder")

    def run(window: Window) -> Extraction:
        encoder.probabilities([window])
        return Extraction()

    return run


def installed_megabytes(*names: str) -> float:
    """Return the size of distributions with everything they require, extras left out."""
    seen: set[str] = set()
    todo = list(names)
    total = 0
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            dist = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        total += sum(p.stat().st_size for f in dist.files or [] if (p := Path(str(dist.locate_file(f)))).is_file())
        for requirement in dist.requires or []:
            if "extra ==" not in requirement:
                todo.append(re.split(r"[\s;<>=!~\[(]", requirement, maxsplit=1)[0])
    return total / 1e6


def in_own_process(mode: str, folder: Path, home: Path | None = None) -> dict[str, float]:
    """Run ``--probe``; return the seconds from the process's start to its first result, and its peak memory."""
    environment = dict(os.environ) | ({"PENCHANT_HOME": str(home)} if home else {})
    command = [sys.executable, __file__, "--probe", mode, "--folder", str(folder)]
    started = time.time()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured | {"first": measured["first"] - started}


def probe(mode: str, folder: Path) -> None:
    """Load, extract from 20 windows, and print when the first result was there and the peak memory."""
    _, mixed = read_windows()
    windows = mixed[:20]
    if mode == "penchant":
        extractor = Extractor.load()
        extractor.extract(windows[1])
        first = time.time()
        list(extractor.extract_many(windows))
    else:
        run = snippet(folder, mode)
        run(windows[1])
        first = time.time()
        for window in windows:
            run(window)
    sys.stdout.write(json.dumps({"first": first, "peak_mb": peak_megabytes()}) + "\n")


def peak_megabytes() -> float:
    """Return this process's peak resident memory; getrusage would count the parent it was forked from."""
    (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(peak) / 1000


def agreement(ours: Timing, theirs: Timing) -> float:
    """Return the share of windows with the same verdict of any or none."""
    pairs = list(zip(ours.results, theirs.results, strict=True))
    return sum(bool(a.preferences) == bool(b.preferences) for a, b in pairs) / len(pairs)


def report(timings: dict[str, dict[str, Timing]], probes: dict[str, dict[str, float]], folder: Path) -> str:
    """Write the tables; ``folder`` holds the weights of the snippet."""
    ours = "penchant"
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("openvino-genai", "torch", "transformers"))
    lines = [f"{cpu_name()}, {os.cpu_count()} cores, {versions}, {date.today()}\n"]
    for name, by_way in timings.items():
        lines += [
            f"**{name}** ({len(by_way[ours].results)} windows)\n",
            "| way | windows/s | Penchant is faster by | p50 | p95 | same verdict as ours |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for way, timing in by_way.items():
            times = f"{by_way[ours].per_second / timing.per_second:.1f}x" if way != ours else ""
            agree = f"{agreement(by_way[ours], timing):.1%}" if way != ours else ""
            lines.append(
                f"| {way} | {timing.per_second:.2f} | {times} | {timing.percentile(50):.0f} ms "
                f"| {timing.percentile(95):.0f} ms | {agree} |"
            )
        quiet = [t for t, r in zip(by_way[ours].latencies, by_way[ours].results, strict=True) if not r.preferences]
        lines.append(f"\nOne window without preferences, ours: p50 {1000 * statistics.median(quiet):.0f} ms\n")
    lines += ["| | peak memory | first result, warm cache | packages | weights |", "| --- | --- | --- | --- | --- |"]
    sizes = {ours: installed_megabytes("penchant")}
    weights = {ours: ModelStore.default().size(EMBEDDED) / 1e6}
    theirs = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    for way, measured in probes.items():
        size = sizes.get(way, installed_megabytes("torch", "transformers", "accelerate"))
        lines.append(
            f"| {way} | {measured['peak_mb']:.0f} MB | {measured['first']:.1f} s | {size:.0f} MB "
            f"| {weights.get(way, theirs):.0f} MB |"
        )
    return "\n".join(lines)


def cpu_name() -> str:
    """Return the processor's name."""
    found = (
        re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        if Path("/proc/cpuinfo").exists()
        else None
    )
    return found.group(1).strip() if found else platform.processor()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write every latency here")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.probe:
        probe(args.probe, args.folder)
        return
    from penchant.train.base import has_fast_bfloat16, smollm2_folder  # here, as in ``snippet``

    dev, mixed = read_windows()
    folder = smollm2_folder(EMBEDDED.name)
    sets = {"Mixed traffic, 10% with preferences": mixed, "dev as it is, every third window": dev}
    timings: dict[str, dict[str, Timing]] = {title: {} for title in sets}
    for way, gate in (("penchant", True), ("penchant, no gate", False)):
        for title, windows in sets.items():
            with Extractor.load(gate=gate) as extractor:  # a new one, which remembers no window of the other set
                timings[title][way] = time_embedded(extractor, windows)
    gated = time_singly(gate_alone(), mixed, "gate, one by one")
    dtypes = ("bfloat16", "float32") if has_fast_bfloat16("cpu") else ("float32",)
    for dtype in dtypes:
        run = snippet(folder, dtype)
        for title, windows in sets.items():
            timings[title][f"snippet, {dtype}"] = time_singly(run, windows, f"snippet, {dtype}")
    probes = {"penchant": in_own_process("penchant", folder)}
    probes |= {f"snippet, {dtype}": in_own_process(dtype, folder) for dtype in dtypes}
    print(report(timings, probes, folder))
    print(f"\nThe gate alone, one window of the mixed traffic: p50 {1000 * statistics.median(gated.latencies):.1f} ms")
    with tempfile.TemporaryDirectory() as home:
        cold = in_own_process("penchant", folder, Path(home))
    print(f"\nFirst result on a cold cache, ours (fetch, merge, convert, load, extract): {cold['first']:.1f} s")
    if args.json:
        data = {
            t: {w: {"per_second": v.per_second, "latencies": v.latencies} for w, v in x.items()}
            for t, x in timings.items()
        }
        args.json.write_text(json.dumps(data))


if __name__ == "__main__":
    main()
