"""Text from anywhere -> text that every file, model and terminal takes."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Replace lone surrogates by U+FFFD and drop control characters other than tab and newline."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", replace_surrogates(text))


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates by U+FFFD, one character for one: they are no Unicode text."""
    return _SURROGATE.sub("\ufffd", text)
