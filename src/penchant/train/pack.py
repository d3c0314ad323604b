"""Trained weights -> the difference to the base that is shipped.

    python -m penchant.train.pack runs/exported/model-f16.gguf --output FILE [--type Q4_0]

A difference has far smaller values than the weights, so that four bits cost hardly anything (see the model's card).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import gguf

from penchant.models.catalog import EMBEDDED
from penchant.models.fetch import sha256
from penchant.models.gguf import Tensors, read_tensors, write_tensors
from penchant.models.store import ModelStore

KINDS = {kind.name: kind for kind in (gguf.GGMLQuantizationType[n] for n in ("Q4_0", "Q5_0", "Q8_0", "F16"))}


def difference(trained: Path, base: Path) -> Tensors:
    """Return what training added, tensor by tensor; those it left alone are left out."""
    before = read_tensors(base)
    after = read_tensors(trained)
    changes = {name: after[name] - before[name] for name in after}
    # the trained file is float16: what is within its rounding did not move
    return {name: change for name, change in changes.items() if abs(change).max() > 2**-10 * abs(before[name]).max()}


def pack(trained: Path, base: Path, output: Path, kind: gguf.GGMLQuantizationType) -> None:
    """Write the difference as a GGUF file."""
    metadata = {
        "general.architecture": "llama",
        "general.name": "what fine-tuning for preference extraction added to SmolLM2-135M-Instruct",
        "general.license": "apache-2.0",
    }
    write_tensors(output, difference(trained, base), kind, metadata)


def main() -> None:
    """Parse the command line and pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path, help="whole weights, as `penchant export --form gguf-f16` writes them")
    parser.add_argument("--base", type=Path, help="GGUF of the base; without it, the embedded model's is fetched")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--type", choices=KINDS, default="Q4_0", help="how the matrices are stored")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = args.base or ModelStore.default().fetch_base(EMBEDDED, Path(folder))
        pack(args.trained, base, args.output, KINDS[args.type])
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB, sha256 {sha256(args.output)}")


if __name__ == "__main__":
    main()
