"""The command line of python -m jaxgpt: what can be done with a run, and with which settings."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from jaxgpt.config import Config, Sampling

RunPath = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
Quantize = Literal["int8"] | None
Drawn = Annotated[Sampling, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class Sample:
    """Let a language model continue a prompt."""

    run: RunPath
    """A run folder, for example runs/base."""
    sampling: Drawn
    prompt: str = "The"
    """Where the text begins."""
    max_tokens: int = 128
    """Longest text, in tokens."""
    seed: int = 0
    """The same seed gives the same text."""
    stop_at_line_end: bool | None = None
    """End with the line. None: where each line of the run's text is a document of its own."""


@dataclass(frozen=True)
class Chat:
    """Talk with a finetuned model, or get one answer with --prompt."""

    run: RunPath
    """A run folder, for example runs/oasst."""
    sampling: Drawn
    prompt: str | None = None
    """Answer this and exit."""
    max_tokens: int = 128
    """Longest reply, in tokens."""
    seed: int = 0
    """The same seed gives the same replies."""
    quantize: Quantize = None
    """int8: weights of eight bits, a quarter of the memory; on a GPU or TPU."""


@dataclass(frozen=True)
class Evaluate:
    """Score a split, every token once; for conversations, the assistant's tokens, and answers too."""

    run: RunPath
    """A run folder, for example runs/base."""
    split: Literal["train", "valid", "test"] | None = None
    """Which part of the run's corpus; valid, where nothing else is asked for."""
    text: str | None = None
    """Score all the text of this file in place of a split."""
    tasks: str | None = None
    """Run tasks in place of a split: tinyworld-pairs, tinyworld-cloze, tinyworld-answers, which come along; or those of
    lm-evaluation-harness, for example hellaswag,arc_easy, or files NAME.yaml. What they come to is kept in the run."""
    stride: int | None = None
    """Text: overlap the windows and score this many new tokens in each, so that every token has more context."""
    quantize: Quantize = None
    """int8: with weights of eight bits, to see what they cost; on any device."""


@dataclass(frozen=True)
class Pairs:
    """Let a run answer questions with one right answer, and write pairs of that and its own wrong ones."""

    run: RunPath
    """A run that talks, for example runs/tiny_chat."""
    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder to make, with train.jsonl and valid.jsonl."""
    corpus: Annotated[str, tyro.conf.arg(name="from")] = "tinyworld-chat"
    """Conversations: tinyworld-chat, or a file or folder of your own."""
    group_size: int = 8
    """Answers drawn to each question."""
    temperature: float = 1.0
    """Of the draws; above 0."""
    answer_tokens: int = 32
    """Longest answer, in tokens."""
    seed: int = 0
    """The same seed gives the same pairs."""


@dataclass(frozen=True)
class Check:
    """Verify a run at rest: documents, records, and every byte of its checkpoints and kept tokens."""

    run: RunPath
    """A run folder, for example runs/base."""
    source: bool = False
    """Also read the text that it was trained on again, and say whether it has changed."""


@dataclass(frozen=True)
class Report:
    """Write one page about a run: its curves, its samples, and what its model has become."""

    run: RunPath
    """A run folder, for example runs/base; it need not be finished."""


@dataclass(frozen=True)
class Compare:
    """Lay runs side by side: figures, curves, and the settings in which they differ."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN ...")]
    """Run folders, for example runs/base runs/tiny."""


@dataclass(frozen=True)
class Explain:
    """Walk a text through the model: its vectors, attention, what each block changes, the next token."""

    run: RunPath
    """A run folder, for example runs/base."""
    text: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TEXT")]
    """What the model reads, for example: the cat sat. A model that talks is asked it."""


@dataclass(frozen=True)
class Tokenize:
    """Show the tokens of a text with their borders, and how many bytes of it each takes."""

    text: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TEXT")]
    """What is cut into tokens; - reads it from standard input."""
    by: Annotated[str, tyro.conf.arg(name="with", metavar="TOKENIZER")]
    """A run, a tokenizer.json, or a folder with one or with GPT-2's vocab.json and merges.txt."""
    ids: bool = False
    """Print the ids alone."""


@dataclass(frozen=True)
class Plan:
    """Compile a training for chips that are not here: whether it fits, how long it takes, what it costs."""

    settings: Annotated[Config, tyro.conf.arg(name="")]
    on: str
    """The chips: v5e:4x4, v5p:4x4x4, v6e:2x2, h100:8, a100:1; v5e:1 for one."""
    config: Annotated[str | None, tyro.conf.arg(metavar="FILE.py")] = None
    """The preset whose values are the defaults of all fields below. None: the reference configuration, base."""
    tokens: float | None = None
    """Tokens of an epoch, for example 10e9. None, or with run.train_tokens: of that, of run.max_steps, or a billion."""


@dataclass(frozen=True)
class Serve:
    """Serve a run to programs and browsers: an OpenAI-compatible API, and a web page."""

    run: RunPath
    """A run folder, for example runs/oasst."""
    host: str = "127.0.0.1"
    """Where to listen; 0.0.0.0 is everywhere, for other machines too."""
    port: int = 8000
    """The port; 0 takes a free one."""
    api_key: str | None = None
    """Clients must send this key. Better given as the environment variable JAXGPT_API_KEY."""
    public_name: tuple[str, ...] = ()
    """Hosts that requests may name beside this machine's own: by which a proxy here is known, as chat.example.org."""
    allow_origin: tuple[str, ...] = ()
    """Sites whose pages may use the API from a browser, as https://example.org; * is any."""
    slots: int = 20
    """Most texts written at once; others wait."""
    quantize: Quantize = None
    """int8: weights of eight bits, a quarter of the memory; on a GPU or TPU."""


@dataclass(frozen=True)
class Import:
    """Make a run of a Hugging Face folder: GPT-2, GPT-NeoX, Llama, Mistral, Qwen 2 and 3."""

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """A folder with config.json, safetensors and tokenizer.json, as huggingface_hub downloads one."""
    name: Annotated[str | None, tyro.conf.arg(name="run.name")] = None
    """The run's name. None: that of the folder."""
    runs: Annotated[str, tyro.conf.arg(name="run.folder")] = "runs"
    """Where runs live."""
    context_len: int | None = None
    """Positions to keep, where the model has more than are needed. None: all."""
    base: str | None = None
    """Of a PEFT folder of LoRA adapters: the run that they were trained beside."""


@dataclass(frozen=True)
class Export:
    """Write a run as a folder that transformers loads, or as a .gguf file for llama.cpp."""

    run: RunPath
    """A run folder, for example runs/base."""
    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder to make; or a file that ends in .gguf, which needs the package gguf."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Precision of the weights. None: that of the import, or float32."""
    adapters: bool = False
    """Of a run with lora.rank: its adapters alone, as a folder for PEFT; otherwise merged into what they were trained
    beside."""


Verb = Sample | Chat | Evaluate | Pairs | Check | Report | Compare | Explain | Tokenize | Plan | Serve | Import | Export
