"""The README.md of an exported model: what it is, what it learned from, how it does, and what is to be filled in."""

from typing import Any

from jaxgpt.run.folder import Run
from jaxgpt.run.metrics import read_records

CARD = """---
license: other  # fill in: whose weights and whose data these are decides it
library_name: transformers
pipeline_tag: text-generation
tags: [jaxgpt]
---

# {name}

{what} of {millions:,.1f}M parameters, trained with jaxgpt and exported as a `{family}`.

| | |
|---|---|
| data | {data} |
| step | {step:,} |
| context | {context_len:,} tokens |
| vocabulary | {vocab_size:,} ({kind}) |
{figures}
## Use

```python
from transformers import AutoModelForCausalLM{tokenizer_import}

model = AutoModelForCausalLM.from_pretrained("FOLDER")
{tokenizer_line}
```
{notes}"""


def model_card(run: Run, step: int, family: str, parameters: int, notes: list[str]) -> str:
    """Returns the model card of a run as Markdown."""
    records = [r for r in read_records(run.path / "metrics.jsonl") if r.get("step") == step and "valid_loss" in r]
    figures = f"| {_figure(run, records[-1])} |\n" if records else ""
    own = not notes
    return CARD.format(
        name=run.path.absolute().name,
        what="A model that talks" if run.data.is_chat else "A language model",
        millions=parameters / 1e6,
        family=family,
        data=run.data.full_name,
        step=step,
        context_len=run.sized.model.context_len,
        vocab_size=run.sized.model.vocab_size,
        kind=run.tokenizer.kind,
        figures=figures,
        tokenizer_import=", AutoTokenizer" if own else "",
        tokenizer_line='tokenizer = AutoTokenizer.from_pretrained("FOLDER")' if own else "# it takes ids",
        notes="".join(f"\n{note}\n" for note in notes),
    )


def _figure(run: Run, record: dict[str, Any]) -> str:
    """Returns what an evaluation says of a model, as two cells."""
    loss, objective = record["valid_loss"], run.config.objective.name
    if objective == "grpo":
        return f"reward of held-out answers | {-loss:.4f}"
    return f"validation loss | {loss:.4f} nats per {'pair' if objective == 'dpo' else run.data.unit}"
