"""What a run did, as sections of a page: what came of it, what it said, what it was, where its parameters are."""

import dataclasses
import difflib
import math
import re
from typing import Any

import jax
import numpy as np

from jaxgpt.config import Config, differences
from jaxgpt.model.parameters import abstract_params, parameter_part
from jaxgpt.report.charts import bar_chart
from jaxgpt.report.markup import escape
from jaxgpt.report.page import Section, figure, note, table
from jaxgpt.report.run_data import Record
from jaxgpt.training.evaluate import Score
from jaxgpt.training.progress import clock

SMOOTHED = 40  # of a curve's points, one stands for the mean around it
MOST_SAMPLES = 24
NAMELESS = (
    "run.name",
    "run.folder",
    "run.restart",
    "run.track",
    "data.cache_dir",
)  # settings that tell nothing about a run
PARTS = {
    "token_embedding": "tokens",
    "position_embedding": "positions",
    "attention": "attention",
    "mlp": "mlp",
    "norm": "norms",
    "final_norm": "norms",
    "head": "head",
}


def result_sentence(record: Record) -> str:
    """Returns what came of a run in one sentence, as far as it is known."""
    if record.best is None:
        return f"A run on {record.run.data.full_name} that has no validation yet, {record.steps:,} steps in."
    step, loss = record.best
    when = f" after step {step:,}" if step != record.steps else ""
    if (judged := _judged(record, step, loss)) is not None:
        return f"On questions of {record.run.data.full_name} that it never trained on, {judged}{when}."
    gap = f"; {loss - record.floor:+.4f} from the entropy floor" if record.floor is not None else ""
    score = Score(loss, 1)
    perplexity = f"{score.perplexity:,.0f}" if 20 <= score.perplexity < 1e9 else score.perplexity_in_words
    return (
        f"On text of {record.run.data.full_name} that it never trained on, this model loses {loss:.4f} nats per "
        f"{record.run.data.unit}{when}{gap}: it is as unsure of the next token as a fair choice among "
        f"{perplexity} tokens."
    )


def _judged(record: Record, step: int, loss: float) -> str | None:
    """Returns what preferences or rewards came to, in words; None where the run learned neither."""
    name = record.run.config.objective.name
    if name == "next_token":
        return None
    measured = "valid_preferred" if name == "dpo" else "valid_right"
    steps, values = record.curve(measured)
    shares = [value for at, value in zip(steps, values, strict=True) if at == step]
    share = f" {shares[0]:.1%}" if shares else ""
    if name == "dpo":
        return f"this model has the better answer ahead in{share} of pairs, a loss of {loss:.4f} nats a pair"
    return f"this model's answers earn a reward of {-loss:.4f}, and{share} are right"


def facts(record: Record) -> list[tuple[str, str]]:
    """Returns the run's main figures as (name, value)."""
    config = record.run.sized
    found = [("Data", record.run.data.full_name), ("Steps", f"{record.steps:,}")]
    objective = record.run.config.objective.name
    if record.best is not None and objective != "next_token":
        loss = record.best[1]
        found.append(("Best reward", f"{-loss:.4f}") if objective == "grpo" else ("Best valid loss", f"{loss:.4f}"))
    elif record.best is not None:
        loss = record.best[1]
        found += [("Best valid loss", f"{loss:.4f}"), ("Perplexity", Score(loss, 1).perplexity_in_words)]
        if (bits := record.run.data.bits_per_byte("valid", loss)) is not None:
            found.append(("Bits per byte", f"{bits:.4f}"))
    found.append(("Parameters", f"{sum(parameters_by_part(config).values()):,}"))
    if record.wall_seconds is not None:
        found.append(("Time", clock(record.wall_seconds)))
    elif record.seconds is not None:
        found.append(("Time in steps, about", clock(record.seconds)))
    return found


def samples(record: Record) -> Section:
    """Returns what the model said at its evaluations, and which words it had not said at the one before."""
    said = record.samples
    if len(said) > MOST_SAMPLES:
        said = [said[i] for i in np.linspace(0, len(said) - 1, MOST_SAMPLES).round().astype(int)]
    parts, before = [], None
    for step, text in said:
        marked = escape(text) if before is None else changed_words(before, text)
        parts.append(f'<div class="sample"><h3>Step {step:,}</h3><blockquote>{marked}</blockquote></div>')
        before = text
    return Section(
        "samples",
        "What it said",
        "At each evaluation, and some times between, the model continues the same text, "
        "its draws decided by the same seed: what changes "
        "from one sample to the next is what it has learned between them, and marked.",
        f'<div class="samples">{"".join(parts)}</div>'
        if parts
        else note("It has not spoken yet: the first sample comes with the first evaluation."),
        is_open=True,
    )


def changed_words(before: str, after: str) -> str:
    """Returns a text as HTML, with the words marked that are not in the one before, in the same order."""
    old, new = (re.findall(r"\s+|\S+", text) for text in (before, after))
    parts = []
    for kind, _, _, low, high in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        words = escape("".join(new[low:high]))
        parts.append(words if kind == "equal" or not words.strip() else f"<mark>{words}</mark>")
    return "".join(parts)


def parameters(record: Record) -> Section:
    """Returns where the model's numbers are."""
    config = record.run.sized
    counts = parameters_by_part(config)
    total = sum(counts.values())
    rows = [(part, float(count), f"{count / total:.1%}") for part, count in counts.items()]
    plot = bar_chart(f"{total:,} parameters", rows, name_width=80)
    cells = [(part, f"{count:,}") for part, count in counts.items()]
    model = config.model
    tied = " The head has none of its own: it predicts with the tokens' own vectors." if model.tie_embeddings else ""
    return Section(
        "parameters",
        "Where its parameters are",
        f"{model.num_layers} blocks of {model.num_heads} heads, a vector of {model.embed_dim} numbers for each of "
        f"{model.vocab_size:,} tokens, and at most {model.context_len} of them in view.{tied}",
        f'<div class="grid">{figure(plot, kind="square")}<div>{table(("Part", "Parameters"), cells, (1,))}</div></div>',
        {"parameters": plot},
    )


def settings(record: Record) -> Section:
    """Returns what the run was asked for, what it read, and where it ran."""
    config = record.run.config
    told = [row for row in differences(Config(), config) if row[0] not in NAMELESS]
    changed = table(("Setting", "This run", "Default"), [(name, spell(new), spell(old)) for name, old, new in told])
    every = [
        (f"{section}.{name}", spell(value))
        for section, values in dataclasses.asdict(config).items()
        for name, value in values.items()
    ]
    data = record.run.data
    sizes = [
        (name, f"{counts.kept if data.is_chat else counts.lines:,}", f"{counts.tokens:,}")
        for name, counts in data.splits.items()
    ]
    items = "conversations" if data.is_chat else "lines"
    notes = "".join(map(note, data.notes))
    machine = record.machine
    where = [
        ("devices", ", ".join(map(str, machine.get("devices", [])))),
        ("platform", str(machine.get("platform", ""))),
        ("python", str(machine.get("python", ""))),
        *((name, str(version)) for name, version in machine.get("packages", {}).items()),
    ]
    ran = table(("", ""), where) if machine else note("The run has no record of its machine.")
    source = f"{data.full_name}. Source: {data.source}. Fingerprint: {data.fingerprint[:16]}."
    return Section(
        "settings",
        "What the run was",
        "Everything needed to get the same numbers again: the settings that differ from the defaults, the text that "
        "was read, the versions that computed.",
        f"<h3>Settings that differ from the defaults</h3>{changed if told else note('None.')}"
        f"<details><summary>All settings</summary>{table(('Setting', 'Value'), every)}</details>"
        f"<h3>Data</h3>{note(source)}{table(('Split', items, 'tokens'), sizes, (1, 2))}{notes}"
        f"<h3>Machine</h3>{ran}",
    )


def parameters_by_part(config: Config) -> dict[str, int]:
    """Returns the number of parameters of each part, the blocks' taken together, those there are."""
    counts = dict.fromkeys(PARTS.values(), 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract_params(config.model)):
        counts[PARTS[parameter_part(path)]] += math.prod(leaf.shape)
    return {part: count for part, count in counts.items() if count}


def spell(value: Any) -> str:
    """Returns a setting as people write it."""
    if isinstance(value, tuple):
        return ", ".join(map(spell, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
