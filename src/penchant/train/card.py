"""The model card of an exported model, in the hub's format."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from penchant.data.records import read_windows
from penchant.errors import InputError
from penchant.extract.window import SYSTEM_PROMPTS
from penchant.train.export import Exported
from penchant.train.recipe import SHIPPED, SMOLLM2, SMOLLM2_HUB, Recipe
from penchant.train.trained import Trained
from penchant.types import LabelledWindow

_RULE = '{"condition": "when writing code", "action": "use type hints", "confidence": 0.9}'

_USAGE = """```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.bfloat16)
messages = [
    {{"role": "system", "content": {prompt!r}}},
    {{"role": "user", "content": "User: How do I sort a list? Always add type hints, please."}},
]
text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
inputs = tokenizer(text, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=512, do_sample=False)
print(tokenizer.decode(output[0][inputs.input_ids.shape[-1]:], skip_special_tokens=True))
```"""

_LINES = """

It writes a line for each rule, `CONDITION -> ACTION |TENTH` (9: a confidence of 0.9 to 1), or `-` if there is none;
with `penchant extract --extractor transformers --model FOLDER` these become the JSON above."""

_LIMITS = """- It imitates its labels: a preference is what the annotation guide calls one, and the confidence is what
  annotators gave, not a measured probability.
- It reads the last six turns of a dialogue; what was said before is not seen.
- It can miss wishes, and take quoted or reported wishes for the user's own. Show users what was stored, and let them
  correct it."""


def write_card(trained: Trained, folder: Path, forms: Sequence[Exported], report: Path | None) -> Path:
    """Write ``README.md`` for an exported model and return its path.

    Args:
        trained: what was exported.
        folder: where to.
        forms: what was written, and how it was checked.
        report: ``report.json`` of an evaluation; None: the card says that there is none.

    Raises:
        InputError: the report or a training file cannot be read.
    """
    recipe = trained.recipe
    ours = recipe.model in (SMOLLM2, SHIPPED)
    header = {
        "base_model": SMOLLM2_HUB if ours else recipe.model,
        "library_name": "transformers",
        "license": "apache-2.0" if ours else "other",  # that of another base, and of its data, is not known
        "pipeline_tag": "text-generation",
        "tags": ["preference-extraction", "personalization", "user-modeling"],
    }
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {folder.resolve().name}\n\n{recipe.model}, fine-tuned to extract user preferences from a dialogue window "
        "as condition-action rules:",
        f'```json\n{{"preferences": [{_RULE}]}}\n```',
        f"## Usage\n\nUnder this system prompt only:\n\n{_USAGE.format(prompt=SYSTEM_PROMPTS[recipe.prompt])}"
        + (_LINES if recipe.answer == "lines" else ""),
        "## Data\n\n" + "\n".join(_data_table(recipe)),
        "## Metrics\n\n" + "\n".join(_metrics(report)),
        f"## Training\n\n`penchant train` with this recipe, stopped at {trained.checkpoint.name}:\n\n"
        f"```yaml\n{yaml.safe_dump(recipe.model_dump(mode='json'), sort_keys=False)}```",
        "## Forms\n\n" + "\n".join(_forms_table(forms, folder)),
        f"## Limits\n\n{_LIMITS}",
    ]
    path = folder / "README.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _data_table(recipe: Recipe) -> Iterator[str]:
    """Count the training windows by source, as the published card does."""
    count: Counter[str] = Counter()
    positive: Counter[str] = Counter()
    licences: dict[str, set[str]] = {}
    for file in recipe.train:
        for window in read_windows(file, LabelledWindow):
            if isinstance(window, InputError):
                raise window
            source = f"{window.source} ({window.labeller})"
            count[source] += 1
            positive[source] += window.is_positive
            licences.setdefault(source, set()).add(window.licence)
    yield "| source (labels by) | count | with a rule | licence |\n| --- | --- | --- | --- |"
    for source, number in count.most_common():
        yield f"| {source} | {number:,} | {positive[source]:,} | {', '.join(sorted(licences[source]))} |"
    yield f"| all | {count.total():,} | {positive.total():,} | |"


def _metrics(report: Path | None) -> Iterator[str]:
    if report is None:
        yield "Not measured yet: `penchant evaluate extraction` reports, `penchant export --report` adds that."
        return
    try:
        data: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        rows = [_metrics_row(extractor) for extractor in data["extractors"]]
        header = data["header"]
        windows, gold, judge = header["windows"], Path(header["data"]).name, header["judge"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{report} is no report.json of `penchant evaluate extraction`: {error!r}") from error
    yield f"On {windows} windows of {gold}; rules are matched by {judge}, {header['date']}, {header['hardware']}.\n"
    yield "| extractor | valid JSON | precision | recall | F1 | negative windows with a rule |"
    yield "| --- | --- | --- | --- | --- | --- |"
    yield from rows


def _metrics_row(extractor: dict[str, Any]) -> str:
    semantic = extractor["semantic"]
    values = (extractor["valid"], semantic["precision"], semantic["recall"], semantic["f1"], extractor["noise"])
    cells = [f"{value['value']:.1%}" if value["value"] is not None else "-" for value in values]
    return f"| {extractor['spec']['name']} | {' | '.join(cells)} |"


def _forms_table(forms: Sequence[Exported], folder: Path) -> Iterator[str]:
    yield "| form | file | answers as the trained model does, to the letter |\n| --- | --- | --- |"
    for item in forms:
        name = item.path.name if item.path != folder else "model.safetensors"
        yield f"| {item.form} | {name} | {item.same} of {item.sample} windows |"
