"""What is learned in one session is applied in the next, in another process too.

No chat model is asked; the answers are recorded.

python examples/two_sessions.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from penchant import Personalizer

FIRST = [
    (
        "When you write Python for me, use type hints on every function. How do I read a CSV file?",
        "def rows(path: str) -> list[dict[str, str]]:\n    return list(csv.DictReader(open(path)))",
    ),
    (
        "I'm vegetarian, by the way. What can I cook with leeks and potatoes tonight?",
        "A gratin: 3 cups of sliced potatoes, 2 cups of leeks, 1 cup of cream and half a cup of cheese.",
    ),
    ("No, not in cups! I cook in grams, always. And how long does it take?", "50 minutes at 180 degrees."),
]
SECOND = [
    ("Write a Python function that removes duplicates from a list.", "..."),
    ("Any idea for Sunday lunch for four?", "..."),
    ("What's the capital of Mongolia?", "..."),
]


def main() -> None:
    """Talk in two sessions and show what is learned, and which notes each message gets."""
    with tempfile.TemporaryDirectory() as folder:
        for session, chat in (("first session", FIRST), ("second session", SECOND)):
            print(f"\n{session}")
            with Personalizer.load(Path(folder) / "memory.db") as loop:
                messages: list[dict[str, str]] = []
                for said, answer in chat:
                    messages.append({"role": "user", "content": said})
                    prepared = loop.prepare("ann", session, messages)
                    print(f"  user: {said}")
                    for note in prepared.notes:
                        print(f"    note in the prompt: {note}")
                    learned = prepared.learned.result().merged
                    for merged in learned:
                        print(f"    {merged.outcome}: {merged.card.note}")
                    if not (learned or prepared.notes):
                        print("    no note, nothing learned")
                    messages.append({"role": "assistant", "content": answer})
                    loop.complete("ann", session, answer)
                loop.end_session("ann", session)


if __name__ == "__main__":
    main()
