"""The PreferenceList: its JSON schema, its canonical text, and the strict and the tolerant parser.

The limits are those of the reference implementation: condition 1-128 characters, action 1-256,
confidence 0-1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import json_repair
from pydantic import ValidationError

from penchant.errors import ParseError
from penchant.text import clean_text
from penchant.types import ACTION_LIMIT, CONDITION_LIMIT, Extraction, Preference, plain_words

ANSWER_PREFIX = '{"preferences":'
"""How every canonical answer begins, and therefore nothing a model needs to write."""

PREFERENCE_LIST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "preferences": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "condition": {"type": "string", "minLength": 1, "maxLength": CONDITION_LIMIT},
                    "action": {"type": "string", "minLength": 1, "maxLength": ACTION_LIMIT},
                    "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                },
                "required": ["condition", "action", "confidence"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["preferences"],
    "additionalProperties": False,
}

ANSWER_GRAMMAR = r"""
root ::= " []}" | " [" rule (", " rule)* "]}"
rule ::= "{\"condition\": \"" char+ "\", \"action\": \"" char+ "\", \"confidence\": " confidence "}"
char ::= [^"\\\x00-\x1f] | "\\" ["\\/bfnrt]
confidence ::= "0." [0-9] [0-9]? | "1.0"
"""
"""What may follow ``ANSWER_PREFIX``: the schema above in canonical text, as an EBNF grammar (xgrammar's dialect).

The lengths are not in the grammar: counting characters costs it two seconds at every start, or half of the
decoding speed. ``parse_tolerant`` enforces them after decoding.
"""

MAX_RULES = 20
"""Most rules taken from one answer; a model that writes more is repeating itself."""

_FIELDS = ("condition", "action", "confidence")
_MAX_DEPTH = 32
_MAX_LENGTH = 100_000
_MAX_BROKEN_LENGTH = 12_000  # json_repair needs quadratic time for some texts
_FENCE = re.compile(r"[^{\[]*?```[a-zA-Z]*\s*(.*?)(?:\n[ \t]*```|```\s*\Z|\Z)", re.DOTALL)  # in a string: no fence
_EMPTY_LIST = re.compile(r"preferences[\"']?\s*:\s*\[\s*\]")


def serialise(preferences: Sequence[Preference]) -> str:
    """Write preferences as canonical JSON: one line, keys in the schema's order, at most two decimals."""
    rules = [{"condition": p.condition, "action": p.action, "confidence": round(p.confidence, 2)} for p in preferences]
    return json.dumps({"preferences": rules}, ensure_ascii=False)


def parse_strict(text: str) -> tuple[Preference, ...]:
    """Read an answer that must be exactly one JSON object of the schema.

    NaN, Infinity, duplicate keys, unknown keys and anything before or after the object are errors.

    Raises:
        ParseError: names the first fault and where it is.
    """
    try:
        data = json.loads(text, parse_constant=_reject_constant, object_pairs_hook=_reject_duplicates)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"not JSON: {_short(error)}") from error
    if not isinstance(data, dict) or set(data) != {"preferences"} or not isinstance(data["preferences"], list):
        raise ParseError('expected {"preferences": [...]} and nothing else')
    rules = []
    for index, item in enumerate(data["preferences"]):
        try:
            rules.append(Preference.model_validate(item, strict=True))
        except ValidationError as error:
            raise ParseError(f"preferences[{index}]: {_first_fault(error)}") from error
    return tuple(rules)


def parse_tolerant(text: str) -> tuple[tuple[Preference, ...], tuple[str, ...]]:
    """Read the answer of a model that nothing constrained; return the rules and what had to be repaired.

    Think blocks, code fences, text around the object, single quotes, missing brackets, a missing
    ``preferences`` wrapper, over-long strings and confidences out of range are mended; a rule without
    a condition or an action is dropped. Each of these is reported. Control characters go, and spaces are made single.

    Raises:
        ParseError: no preference list can be made out, which is not the same as an empty one.
    """
    repairs: list[str] = []
    try:
        written = parse_strict(text)
    except ParseError:
        try:
            rules = _read_tolerant(text, repairs)
        except RecursionError as error:
            raise ParseError("the answer is nested too deeply") from error
    else:
        rules = _clean(written, repairs)
    if len(rules) > MAX_RULES:
        repairs.append(f"kept the first {MAX_RULES} of {len(rules)} rules")
    return rules[:MAX_RULES], tuple(repairs)


def read_answer(text: str) -> Extraction:
    """Read any model's answer tolerantly; one that cannot be read gives an extraction that is not valid."""
    try:
        rules, repairs = parse_tolerant(text)
    except ParseError as error:
        return Extraction(valid=False, error=str(error))
    return Extraction(preferences=unique(rules), repairs=repairs)


def close_cut_answer(text: str) -> str:
    """Close a canonical answer that was cut off: its complete rules stay, the unfinished one goes.

    Raises:
        ParseError: no rule is complete.
    """
    end = len(text)
    while (end := text.rfind("}", 0, end)) >= 0:
        closed = f"{text[: end + 1]}]}}"
        try:
            json.loads(closed)
        except ValueError:  # this brace stands in a string, or closes the answer
            continue
        return closed
    raise ParseError("the answer was cut off before its first rule was complete")


def unique(preferences: Sequence[Preference]) -> tuple[Preference, ...]:
    """Drop rules that repeat an earlier one, up to case and spaces; the first one's confidence stays."""
    seen: dict[tuple[str, str], Preference] = {}
    for rule in preferences:
        seen.setdefault(plain_words(rule), rule)
    return tuple(seen.values())


def _read_tolerant(text: str, repairs: list[str]) -> tuple[Preference, ...]:
    if len(text) > _MAX_LENGTH:
        raise ParseError(f"the answer is longer than {_MAX_LENGTH:,} characters")
    body = _strip(text, repairs)
    data, broken = _load(body, repairs)
    items = _find_list(data, repairs)
    if broken:
        items = _whole_items(items, body, repairs)
    rules = tuple(
        rule for index, item in enumerate(items) if (rule := mend_rule(f"preferences[{index}]", item, repairs))
    )
    if items and not rules:
        raise ParseError(f"none of the {len(items)} rules can be used: {repairs[-1]}")
    return rules


def _clean(written: Sequence[Preference], repairs: list[str]) -> tuple[Preference, ...]:
    """Clean the texts of rules that are of the schema, which takes any characters."""
    rules = []
    for index, rule in enumerate(written):
        where = f"preferences[{index}]"
        clean = mend_rule(where, rule.model_dump(), repairs)
        if clean:
            rules.append(clean)
        if clean and plain_words(clean) != plain_words(rule):  # more than spaces
            repairs.append(f"cleaned {where}")
    if written and not rules:
        raise ParseError(f"none of the {len(written)} rules can be used: {repairs[-1]}")
    return tuple(rules)


def _strip(text: str, repairs: list[str]) -> str:
    """Cut out think blocks and fences, and whatever stands before the first bracket."""
    body = text if text.lstrip()[:1] in ("{", "[", "`") else text.rpartition("</think>")[2]
    if body.lstrip().startswith("<think>"):
        raise ParseError("the model was still thinking when its answer was cut off")
    if body != text:
        repairs.append("removed a think block")
    fence = _FENCE.match(body)
    if fence:
        body = fence.group(1)
        repairs.append("removed a code fence")
    start = min((i for i in (body.find("{"), body.find("[")) if i >= 0), default=-1)
    if start < 0:
        raise ParseError("the answer holds no JSON")
    if body[:start].strip():
        repairs.append("removed text before the JSON")
    return body[start:].strip()


def _load(body: str, repairs: list[str]) -> tuple[Any, bool]:
    """Parse the first JSON value of ``body``; also say whether its syntax had to be repaired."""
    try:
        data, end = json.JSONDecoder(object_pairs_hook=_last_wins(repairs)).raw_decode(body)
    except ValueError:
        pass
    else:
        if body[end:].strip():
            repairs.append("removed text after the JSON")
        return data, False
    if _depth(body) > _MAX_DEPTH:
        raise ParseError("the answer is nested too deeply")
    if len(body) > _MAX_BROKEN_LENGTH:
        raise ParseError(f"the answer is broken JSON of more than {_MAX_BROKEN_LENGTH:,} characters")
    repairs.append("repaired the JSON syntax")
    try:
        return json_repair.loads(body, skip_json_loads=True), True
    except AssertionError as error:  # json_repair's own, of a code fence within a key
        raise ParseError("the answer is broken JSON that cannot be repaired") from error


def _whole_items(items: list[Any], body: str, repairs: list[str]) -> list[Any]:
    """Drop the last rule of a broken ``body`` that ends amid it; none are left only if ``body`` says none."""
    is_open = body.count("{") + body.count("[") > body.count("}") + body.count("]")
    if items and is_open and not body.rstrip(" \n,{[\"'").endswith(("}", "]")):  # json_repair drops a bare {" itself
        repairs.append("dropped the last rule: it was cut off")
        items = items[:-1]
    if not items and not _EMPTY_LIST.search(body):
        raise ParseError("the answer is broken JSON and holds no whole rule")
    return items


def _find_list(data: Any, repairs: list[str]) -> list[Any]:
    if isinstance(data, dict) and isinstance(data.get("preferences"), list):
        if len(data) > 1:
            repairs.append("ignored keys beside 'preferences'")
        items: list[Any] = data["preferences"]
        return items
    if isinstance(data, dict) and {"condition", "action"} <= set(data):
        repairs.append("wrapped a bare rule")
        return [data]
    if isinstance(data, list) and all(isinstance(item, dict) for item in data):
        repairs.append("wrapped a bare list")
        return data
    raise ParseError("the JSON holds no 'preferences' list")


def mend_rule(where: str, item: Any, repairs: list[str]) -> Preference | None:
    """Make a rule of what a model wrote; None if it cannot be used. ``repairs`` gets what had to be done."""
    if not isinstance(item, dict):
        repairs.append(f"dropped {where}: not an object")
        return None
    texts = {}
    for field, limit in (("condition", CONDITION_LIMIT), ("action", ACTION_LIMIT)):
        value = item.get(field)
        clean = " ".join(clean_text(value).split()) if isinstance(value, str) else ""
        if not clean:
            repairs.append(f"dropped {where}: {field} is missing or empty")
            return None
        if len(clean) > limit:
            repairs.append(f"cut {where}.{field} to {limit} characters")
        texts[field] = clean[:limit].rstrip()
    if extra := [key for key in item if key not in _FIELDS]:
        repairs.append(f"ignored {where}.{clean_text(str(extra[0]))[:40]}")
    return Preference(**texts, confidence=_mend_confidence(where, item.get("confidence"), repairs))


def _mend_confidence(where: str, value: Any, repairs: list[str]) -> float:
    """Return a confidence in [0, 1]; what cannot be read counts as 0.5, neither sure nor unsure."""
    if type(value) in (int, float) and 0 <= value <= 1:
        return float(value)
    try:
        number = float(str(value).strip().rstrip("%")) / (100 if str(value).strip().endswith("%") else 1)
    except ValueError:
        number = float("nan")
    if not math.isfinite(number):
        repairs.append(f"{where}.confidence was {str(value)[:40]!r}, set to 0.5")
        return 0.5
    repairs.append(f"{where}.confidence was {str(value)[:40]!r}")
    return min(1.0, max(0.0, number))


def _depth(text: str) -> int:
    """Return how deeply brackets nest, those in strings included."""
    depth = deepest = 0
    for char in text:
        if char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth = max(0, depth - 1)
    return deepest


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key[:40]!r} appears twice")
        found[key] = value
    return found


def _last_wins(repairs: list[str]) -> Any:
    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            repairs.append("a key appeared twice; its last value was taken")
        return found

    return collect


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"]) or "the rule"
    return f"{where}: {fault['msg']}"


def _short(error: BaseException) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
