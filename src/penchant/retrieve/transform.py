"""A query -> the texts that are embedded for it (paper, section 4: query transformation)."""

from __future__ import annotations

import re

TASKS = {
    "math": "math|maths|solve|equation|integral|derivative|proof|prove|calculate|algebra|geometry|probability",
    "coding": "code|coding|program|function|script|bug|debug|python|javascript|java|sql|compile|refactor|implement",
    "writing": "write|essay|email|letter|story|poem|draft|rewrite|paragraph|blog|article",
    "explanation": "explain|what is|what are|why|how does|how do|describe|difference between|meaning of",
}
"""The paper's four types of task; it does not list the keywords, so these are ours."""

_KEYWORDS = {task: re.compile(rf"\b(?:{words})\b") for task, words in TASKS.items()}


def task_type(query: str) -> str | None:
    """Return the first type of task whose keyword is in the query, at word borders."""
    text = query.casefold()
    return next((task for task, keywords in _KEYWORDS.items() if keywords.search(text)), None)


def variants(query: str) -> list[str]:
    """Return the query and, if its type is known, the query for preferences of that type."""
    task = task_type(query)
    return [query, f"user preferences for {task} tasks: {query}"] if task else [query]
