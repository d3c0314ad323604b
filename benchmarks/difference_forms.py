"""In which form should what we trained be shipped? Size and dev quality of each.

    python benchmarks/difference_forms.py runs/exported/model-f16.gguf

The difference to the base in several precisions, and cut to a low rank (the adapter that fits it best); the greedy
answers, without gate and calibration. Needs: pip install 'penchant[train]'.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

from penchant import Extractor
from penchant.data.records import load_windows
from penchant.evaluate.assess import assess
from penchant.evaluate.embedding import MiniLM
from penchant.evaluate.markdown import RESULT_COLUMNS, result_cells
from penchant.evaluate.matching import SemanticJudge
from penchant.evaluate.run import Outcome
from penchant.evaluate.specs import Kind, Spec
from penchant.extract.answer import SHIPPED, write_form
from penchant.models.catalog import EMBEDDED
from penchant.models.gguf import Tensors, write_tensors
from penchant.models.prepare import prepare
from penchant.models.store import ModelStore
from penchant.train.pack import KINDS, difference, pack
from penchant.types import LabelledWindow

DEV = Path(__file__).parent.parent / "data" / "labelled" / "dev.jsonl"
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
    parser.add_argument("trained", type=Path, help="whole weights, as `penchant export --form gguf-f16` writes them")
    args = parser.parse_args()
    gold, judge = load_windows(DEV, LabelledWindow), SemanticJudge(MiniLM().embed)
    columns = ("form", "MB", *RESULT_COLUMNS)
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = ModelStore.default().fetch_base(EMBEDDED, folder)
        for index, (form, size, path) in enumerate(forms(args.trained, base, folder)):
            model = folder / f"model-{index}"
            model.mkdir()
            prepare(base, path, model)
            write_form(model, SHIPPED)
            results = Extractor.load(model=str(model)).extract_many(window.turns for window in gold)
            outcome = Outcome(Spec(form, Kind.embedded, str(model)), tuple(results))
            row = (form, f"{size:.0f}", *result_cells(assess(gold, outcome, judge)))
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
