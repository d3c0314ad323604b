"""Fit what the pair reader's logit and the cosine say together of whether a note applies: ``retrieve.rerank.Weighing``.

    python -m penchant.evaluate.weigh data/relevance/train*.jsonl

Logistic regression on every message and conditional note of the profiles that the reader was not trained on, with the
cosines of all-MiniLM-L6-v2 and without; for each, how well it does on profiles that it was not fitted on (two halves):
cross-entropy, and the expected calibration error over ten bins, with what it would be by chance.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from penchant.evaluate.calibration import Calibration, calibrate
from penchant.evaluate.readers import Floats, load_embed, load_read
from penchant.evaluate.regression import regress
from penchant.evaluate.retrieval_sets import User, read_profiles
from penchant.evaluate.retrieval_systems import dense, remember
from penchant.retrieve.embed import MINILM
from penchant.retrieve.rerank import Weighing


def fit(logits: Floats, cosines: Floats, applies: NDArray[np.bool_]) -> Weighing:
    """Return the weighing of the least cross-entropy; cosines of zero get no weight."""
    return Weighing(*regress(np.column_stack([logits, cosines]), applies).tolist())


def entropy(scores: Floats, applies: NDArray[np.bool_]) -> float:
    """Return the mean cross-entropy of scores (log-odds), in nats."""
    return float(np.logaddexp(0, -np.where(applies, scores, -scores)).mean())


def calibration(scores: Floats, applies: NDArray[np.bool_]) -> Calibration:
    """Return how far the probabilities that scores (log-odds) stand for are from the share of what applies."""
    return calibrate((1 / (1 + np.exp(-scores))).tolist(), ["right" if each else "wrong" for each in applies])


def measure(users: Sequence[User]) -> tuple[Floats, Floats, NDArray[np.bool_], NDArray[np.int64]]:
    """Return logits, cosines, whether the note applies, and the user's number, of every query and note."""
    likeness, read = dense(remember(load_embed(MINILM)), transform=True), load_read("relevance", None)
    logits, cosines, applies, owners = [], [], [], []
    for number, user in enumerate(tqdm(users, desc="users", unit="user")):
        for query in user.queries:
            logits += read([(query.text, note) for note in user.notes])[:, 0].tolist()
            cosines += likeness(query.text, user.notes).tolist()
            applies += [place in query.relevant for place in range(len(user.notes))]
            owners += [number] * len(user.notes)
    return np.array(logits), np.array(cosines), np.array(applies), np.array(owners)


def main() -> None:
    """Parse the command line, fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", type=Path, nargs="+", help="relevance profiles")
    args = parser.parse_args()
    users = read_profiles(args.profiles, apart=True).users
    logits, cosines, applies, owners = measure(users)
    for name, mine in (("WITH_MINILM", cosines), ("ALONE", np.zeros_like(cosines))):
        halves = [owners % 2 == half for half in (0, 1)]
        scores = np.zeros_like(logits)
        for one, two in (halves, halves[::-1]):
            scores[two] = fit(logits[one], mine[one], applies[one]).of(logits[two], mine[two])
        print(f"{name} = {fit(logits, mine, applies)}")
        found = calibration(scores, applies)
        print(
            f"on the other half: cross-entropy {entropy(scores, applies):.4f},"
            f" ECE {found.ece:.3f} (by chance {found.ece_by_chance:.3f})"
        )


if __name__ == "__main__":
    main()
