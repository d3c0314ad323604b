"""Make data/simulation: users and tasks for ``penchant simulate``.

    python data/make_simulation.py FOLDER

FOLDER is a clone of github.com/Shuhaibm/multisessioncollab (MIT), or its folder ``collaborativeagents``. Its twenty
interaction preferences are paragraphs for a user model; here each is a rule (condition, action), with two ways in
which a user complains of an answer that lacks it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "simulation"

SETS = ("math-500", "math_hard", "mmlu", "medqa")
"""LogiQA is left out: its own licence allows no commercial use."""

LONGEST = 1200
"""Most characters of a problem."""

RULES: dict[str, tuple[str, str, str, str, str]] = {
    "narrative": (
        "be narrative, conversational, and engaging",
        "general",
        "write conversationally, with transitions and a link back to what was said before",
        "This reads like a telegram. Talk to me, and tie it to what we just had.",
        "So choppy! I'd like it to flow like a conversation.",
    ),
    "only-asked": (
        "respond to only your request",
        "general",
        "answer only what was asked, without suggestions or next steps",
        "I didn't ask for any tips on what to do next. Just the thing I asked.",
        "Skip the extras you tacked on at the end.",
    ),
    "holistic": (
        "prefer holistic responses",
        "when working on a problem",
        "give the full solution at once, without asking for confirmation in between",
        "Don't feed it to me in pieces, I want the whole solution in one go.",
        "No need to check in with me after each bit. All of it, please.",
    ),
    "blunt": (
        "be blunt without pleasantries",
        "general",
        "be blunt, without pleasantries, apologies or courtesy markers",
        "Cut the sugar coating. I don't need apologies or 'happy to help'.",
        "Too polite. Say it straight.",
    ),
    "friendly": (
        "be respectful, considerate, and friendly",
        "general",
        "be friendly and considerate, with courteous wording",
        "That was rather cold. A kind word would be nice.",
        "You sound like a vending machine, be a bit warmer please.",
    ),
    "intuition": (
        "start with high-level intuition",
        "when solving a problem or explaining a concept",
        "start with the intuition and the general principle before the details",
        "You jumped right into calculations. What's the big idea first?",
        "Give me the picture before the formulas.",
    ),
    "direct": (
        "avoid any unnecessary narration",
        "general",
        "get directly to the point, without preamble, meta-commentary or transitions",
        "Spare me the 'let me walk you through this'. Straight to it.",
        "Why all the preamble? To the point, please.",
    ),
    "increments": (
        "covers only a single small increment",
        "when working on a multi-step problem",
        "cover one small step per reply and ask for confirmation before going on",
        "Whoa, that's everything at once. One step, then check with me.",
        "I lost you at step two. Stop after each bit and ask if I follow.",
    ),
    "next-step": (
        "end responses with a proactive suggestion",
        "general",
        "end with a suggestion or a next step",
        "And then what? You left me hanging without something to do next.",
        "It'd help if you closed with an idea of what to try after this.",
    ),
    "reasoning": (
        "state relevant assumptions, show step-by-step reasoning",
        "when solving a problem or explaining a concept",
        "state the assumptions, show each step of the reasoning and justify the conclusion",
        "How did you get there? You skipped the derivation.",
        "You just claim the result. What are you assuming, and why does it follow?",
    ),
    "takeaways": (
        "offer key takeaways or a summary",
        "when the conversation is winding down",
        "offer key takeaways or a summary for later",
        "What should I remember from this? You didn't sum it up.",
        "Leave me some key points that I can keep.",
    ),
    "numbered": (
        "structured responses that have numbered steps",
        "general",
        "number the steps",
        "I can't tell where one step stops. Put 1, 2, 3 in front of them.",
        "No numbers on the steps, so I can't refer to them.",
    ),
    "bullets": (
        "structured in bullet-point format",
        "general",
        "use bullet points",
        "A wall of text! Make it a list with dots or dashes.",
        "Could you break that into a bulleted list?",
    ),
    "examples": (
        "include examples, analogies or metaphors",
        "when giving an explanation",
        "include an example, an analogy or a metaphor",
        "Too abstract. What is that like, in everyday terms?",
        "Show me one concrete case, otherwise I don't get it.",
    ),
    "three-sentences": (
        "no longer than three sentences",
        "general",
        "use no more than three sentences",
        "Much too long. Three sentences, that's all I read.",
        "Boil it down to a few sentences, three at most.",
    ),
    "headings": (
        "headings for each section",
        "general",
        "give each section a heading",
        "Where do the parts begin? Titles over them, please.",
        "It has sections but nothing to navigate by. Put headers in.",
    ),
    "tldr": (
        "one-line TL;DR",
        "general",
        "end with a one-line TL;DR",
        "And in one line? You left out the short version at the bottom.",
        "Where's my TL;DR?",
    ),
    "confidence": (
        "contain confidence estimates",
        "when giving an answer to a problem",
        "say how confident you are, in percent",
        "How sure are you of that? Give me a number.",
        "You say it like it's gospel. What are the odds that it's right?",
    ),
    "approaches": (
        "provide multiple viable approaches",
        "when giving an answer to a problem",
        "offer several viable approaches with the tradeoffs of each",
        "Is that the only way? I want alternatives with their pros and cons.",
        "You gave me one route. What else would work, and what would it cost me?",
    ),
    "outline": (
        "start out with an outline",
        "when giving an answer to a problem",
        "start with an outline of what will be covered",
        "You dived right in. Tell me first what you're going to cover.",
        "No plan at the top, so I can't see where this is going.",
    ),
}
"""By our name: words of the original by which it is known, condition, action, and two complaints."""


def rule_of(text: str) -> str:
    """Return our name of one of the repository's preferences."""
    (name,) = [name for name, (words, *_) in RULES.items() if words in text]
    return name


def problems(folder: Path) -> Iterable[dict[str, Any]]:
    """Yield the texts of the tasks, without those that are too long or need a drawing."""
    seen: set[str] = set()
    for name in SETS:
        for part in ("train", "test"):
            path = folder / "datasets" / "cache" / name / f"{part}set_size20_seed42.json"
            for number, record in enumerate(json.loads(path.read_text(encoding="utf-8"))):
                text = record["problem"].strip()
                if len(text) <= LONGEST and "[asy]" not in text and text not in seen:
                    seen.add(text)
                    yield {"id": f"{name}-{part}-{number:02}", "set": name, "text": text}


def write(name: str, records: Iterable[dict[str, Any]]) -> None:
    """Write JSON Lines."""
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    (HERE / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines):5} {name}")


def main(folder: Path) -> None:
    """Make the three files."""
    if (folder / "collaborativeagents").is_dir():
        folder = folder / "collaborativeagents"
    HERE.mkdir(exist_ok=True)
    profiles = json.loads((folder / "user_profiles" / "user_profiles.json").read_text(encoding="utf-8"))
    rules = [
        {"id": name, "condition": condition, "action": action, "said": said}
        for name, (_, condition, action, *said) in RULES.items()
    ]
    write("rules.jsonl", rules)
    write(
        "profiles.jsonl",
        (
            {
                "id": f"collab-{profile['i']:03}",
                "persona": profile["persona"],
                "rules": [rule_of(text) for text in profile["preferences"]],
            }
            for profile in profiles
        ),
    )
    write("problems.jsonl", problems(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
