"""The short answer: a line for each rule, a third of the tokens of its JSON. Users never see it.

    when writing Python code -> use type hints |9

The last digit is the confidence's tenth: 9 is 0.9 to 1.0, 5 is 0.5 to 0.6 (upper ends included). An answer of ``-``
says that there is no rule.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from penchant.errors import ParseError
from penchant.extract.schema import MAX_RULES, mend_rule, unique
from penchant.types import Extraction, Preference

NOTHING = "-"

GRAMMAR = r"""
root ::= "-" | rule ("\n" rule)*
rule ::= [^-\n|>] [^\n|>]* " -> " [^\n|]+ " |" [0-9]
"""
"""The lines as an EBNF grammar (xgrammar's dialect)."""

_LINE = re.compile(r"([^|>]+?) -> ([^|]+?) \|(\d)")
_FULL_STOP = re.compile(r"""(?:(?<=\w\w)|(?<=[\d)\]"'`]))\.$""")
"""One that ends a sentence; those of "p.m." and "..." are left."""


def serialise(preferences: Sequence[Preference]) -> str:
    """Write preferences as lines; bars, and arrows in conditions, become slashes, and an action's full stop goes."""
    return "\n".join(map(_line, preferences)) or NOTHING


def read(text: str) -> Extraction:
    """Read lines; one that is no rule is dropped and reported, and an answer without any is not valid.

    A full stop at the end of an action goes.
    """
    if text.strip() == NOTHING:
        return Extraction()
    rules: list[Preference] = []
    repairs: list[str] = []
    for number, line in enumerate(text.strip().split("\n"), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if not found:
            repairs.append(f"dropped line {number}: it is not CONDITION -> ACTION |DIGIT")
            continue
        action = _FULL_STOP.sub("", found[2])
        item = {"condition": found[1], "action": action, "confidence": round(int(found[3]) / 10 + 0.05, 2)}
        rules += [rule for rule in [mend_rule(f"line {number}", item, repairs)] if rule]
    if not rules:
        return Extraction(valid=False, error=f"the answer holds no rule: {repairs[0] if repairs else 'it is empty'}")
    if len(rules) > MAX_RULES:
        repairs.append(f"kept the first {MAX_RULES} of {len(rules)} rules")
    return Extraction(preferences=unique(rules[:MAX_RULES]), repairs=tuple(repairs))


def close_cut(text: str) -> str:
    """Drop the unfinished last line of an answer that was cut off.

    Raises:
        ParseError: no line is complete.
    """
    complete = text.rpartition("\n")[0]
    if not complete:
        raise ParseError("the answer was cut off before its first rule was complete")
    return complete


def _line(rule: Preference) -> str:
    condition = re.sub(r"[|>]", "/", " ".join(rule.condition.split())).lstrip("- ") or "general"
    action = _FULL_STOP.sub("", re.sub(r"[|]", "/", " ".join(rule.action.split())))
    tenth = min(9, max(0, math.ceil(round(rule.confidence * 10, 8)) - 1))
    return f"{condition} -> {action} |{tenth}"
