"""In which form a model writes its answer. What users see is JSON in any case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from penchant.errors import ModelError
from penchant.extract import lines, schema
from penchant.extract.window import PromptName
from penchant.models.catalog import EMBEDDED
from penchant.models.store import FORM, note_form
from penchant.types import Extraction, Preference

FormName = Literal["json", "lines"]


@dataclass(frozen=True)
class AnswerForm:
    """How an answer is written, constrained and read.

    ``prefix`` begins every answer and is therefore never decoded; ``nothing`` follows it if there is no rule, and its
    first token alone says so; ``grammar`` is what may follow the prefix (xgrammar's EBNF); ``close_cut`` makes an
    answer that was cut off whole, without its last rule, or raises ``ParseError``.
    """

    prefix: str
    nothing: str
    grammar: str
    serialise: Callable[[Sequence[Preference]], str]
    read: Callable[[str], Extraction]
    close_cut: Callable[[str], str]


FORMS: dict[FormName, AnswerForm] = {
    "json": AnswerForm(
        schema.ANSWER_PREFIX,
        " []}",
        schema.ANSWER_GRAMMAR,
        schema.serialise,
        schema.read_answer,
        schema.close_cut_answer,
    ),
    "lines": AnswerForm("", lines.NOTHING, lines.GRAMMAR, lines.serialise, lines.read, lines.close_cut),
}
"""``json`` is the model card's text, which the published checkpoint writes; ``lines`` is the shipped model's."""


class ModelForm(BaseModel):
    """What a model was trained to read and write: ``form.json`` in the folder of an embedded model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: PromptName
    answer: FormName

    @property
    def answer_form(self) -> AnswerForm:
        """The answer's form itself."""
        return FORMS[self.answer]


SHIPPED = ModelForm.model_validate({"prompt": EMBEDDED.prompt, "answer": EMBEDDED.answer})
"""What the shipped model reads and writes."""

CARD = ModelForm(prompt="card", answer="json")
"""What the published checkpoint reads and writes, as its model card says."""


def write_form(folder: Path, form: ModelForm) -> None:
    """Note in a model's folder what it reads and writes."""
    note_form(folder, form.prompt, form.answer)


def read_form(folder: Path) -> ModelForm:
    """Return what a model reads and writes; ``CARD`` if its folder does not say.

    Raises:
        ModelError: what it says cannot be read.
    """
    path = folder / FORM
    try:
        return ModelForm.model_validate_json(path.read_bytes()) if path.exists() else CARD
    except (OSError, ValidationError) as error:
        raise ModelError(f"{path} cannot be read: export the model again") from error
