"""In which form should what we trained be shipped? Size and dev quality of each: the table in the weights' card.

    python benchmarks/difference_forms.py runs/first/epoch-3.gguf --base runs/first/base.gguf

The difference to the base in several precisions, and cut to a low rank (the adapter that fits it best). Needs:
pip install 'penchant[train]'.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

from dev_quality import COLUMNS, DEV, read_gold, score
from penchant import Extractor
from penchant.evaluate.embedding import MiniLM
from penchant.models.gguf import Tensors, write_tensors
from penchant.models.prepare import prepare
from penchant.train.pack import KINDS, difference, pack

RANKS = (16, 64, 128)


def low_rank(changes: Tensors, rank: int) -> tuple[Tensors, float]:
    """Cut every matrix to its best approximation of a rank; return it and the megabytes of its factors in float16."""
    cut: Tensors = {}
    numbers = 0
    for name, change in changes.items():
        if change.ndim == 1:
            cut[name] = change
            continue
        left, values, right = np.linalg.svd(change, full_matrices=False)
        cut[name] = ((left[:, :rank] * values[:rank]) @ right[:rank]).astype(np.float32)
        numbers += rank * sum(change.shape)
    return cut, 2 * numbers / 1e6


def forms(trained: Path, base: Path, folder: Path) -> Iterator[tuple[str, float, Path]]:
    """Yield each form's name, its size in megabytes, and a difference file that stands for it."""
    for name in ("F16", "Q8_0", "Q5_0", "Q4_0"):
        path = folder / f"{name}.gguf"
        pack(trained, base, path, KINDS[name])
        yield f"full weights, difference in {name}", path.stat().st_size / 1e6, path
    changes = difference(trained, base)
    for rank in RANKS:
        cut, size = low_rank(changes, rank)
        path = folder / f"rank-{rank}.gguf"
        write_tensors(path, cut, gguf.GGMLQuantizationType.F16, {"general.architecture": "llama"})
        yield f"difference cut to rank {rank}, float16", size, path


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    args = parser.parse_args()
    gold, embed = read_gold(DEV), MiniLM()
    print(f"| form | MB | {COLUMNS} |\n| --- | --- | {' | '.join('---' for _ in COLUMNS.split('|'))} |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, (form, size, path) in enumerate(forms(args.trained, args.base, folder)):
            model = folder / f"model-{index}"
            model.mkdir()
            prepare(args.base, path, model)
            results = list(Extractor.load(model=str(model)).extract_many(window.turns for window in gold))
            print(f"| {form} | {size:.0f} | {score(gold, results, embed)} |", flush=True)


if __name__ == "__main__":
    main()
