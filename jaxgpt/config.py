"""Every knob, once: frozen dataclasses, a preset file and the command line become one checked Config."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jaxgpt.buckets import path_of
from jaxgpt.errors import UserError

MOST = 2**32  # no whole number of a config reaches it
LARGEST = 3.4e38  # nor any number float32's largest
DEEPEST = 256  # of the dial: a model of 256 blocks by its rules has 0.8 T parameters
WIDEST, LONGEST = 2**20, 2**24  # of a vector, of a context: larger ones are mistakes, and a product of sizes overflows


@dataclass(frozen=True)
class ModelConfig:
    """The network: GPT-2's plan, with later refinements as options of the same one block."""

    vocab_size: int = 30_000
    """Most tokens that a tokenizer made for the run may have, special ones included; a small corpus has fewer."""
    context_len: int = 128
    """Positions the model can see at once, in tokens."""
    embed_dim: int = 128
    """Width of the vector that stands for a token."""
    num_heads: int = 4
    """Attention heads in a block; divides embed_dim, unless head_dim is given."""
    num_kv_heads: int | None = None
    """Heads for keys and values (grouped-query attention); divides num_heads. None: as many as num_heads."""
    head_dim: int | None = None
    """Width of a head. None: embed_dim / num_heads."""
    num_layers: int = 4
    """Transformer blocks."""
    depth: int | None = None
    """One dial for the size: so many blocks, and the width, heads, batch, learning rates and length of training that go
    with them by the rules of jaxgpt/depth.py; what else the command line gives wins. None: all as given."""
    mlp_dim: int | None = None
    """Hidden width of a block's mlp. None: 4 times embed_dim."""
    dropout: float = 0.1
    """Share of activations dropped in training, where GPT-2 drops them."""
    positions: Literal["learned", "rotary"] = "learned"
    """How a token knows where it sits: a learned vector added to it, or rotated queries and keys."""
    rope_theta: float = 10_000.0
    """rotary: the base of its wavelengths; a larger one turns the slow dimensions more slowly."""
    rope_factor: float = 1.0
    """rotary: slow dimensions turn more slowly by this, as Llama 3.1 stretched its context; 1 leaves them."""
    rope_low_freq: float = 1.0
    """rotary: which are slow: those that turn fewer times than this in rope_original_context tokens."""
    rope_high_freq: float = 4.0
    """rotary: dimensions that turn more often than this there are left, those between are stretched in part."""
    rope_original_context: int = 8192
    """rotary: the context before it was stretched."""
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    """Normalisation before attention, before the mlp and at the end."""
    norm_epsilon: float = 1e-5
    """What norms add to the mean square, so that no division is by 0."""
    mlp: Literal["gelu", "gelu_exact", "swiglu"] = "gelu"
    """The mlp's nonlinearity: GELU by its tanh, or exactly; swiglu adds a gate of the same width."""
    qk_norm: bool = False
    """Normalise queries and keys per head before they meet."""
    bias: Literal["all", "qkv", "none"] = "all"
    """Which linear maps add a bias: all; those of queries, keys and values; none, layer norms included."""
    tie_embeddings: bool = True
    """Predict tokens with the token embedding itself; otherwise with a matrix of its own."""
    embedding_rows: int | None = None
    """Of imported weights: rows of the token embedding, of which exactly vocab_size are tokens. None: as many as the
    tokenizer has tokens, rounded up to a multiple of 128."""
    remat: Literal["none", "dots", "full"] = "none"
    """What of a block's activations the backward pass computes a second time, to keep less: none; dots, all but the
    results of its products with matrices, and of splash; full, all."""
    scan_layers: bool | None = None
    """Train the blocks as one program and a loop, their parameters in shared arrays: compiling takes as long for many
    as for one. Checkpoints are the same; initial parameters and dropout are drawn in another order. None: from 24
    blocks on."""
    attention: Literal["auto", "xla", "cudnn", "splash"] = "auto"
    """The kernel of attention in training: xla is our own; cudnn and splash are fused ones, of NVIDIA's GPUs and of
    TPUs, which drop no weights and multiply in bfloat16; auto tries what this machine has and takes the faster kind."""
    dtype: Literal["auto", "float32", "mixed", "bfloat16"] = "float32"
    """Precision of matrix products and of activations: float32 is that on every device, not TF32; mixed multiplies
    bfloat16 and keeps float32, bfloat16 keeps bfloat16; auto takes what this machine is fast at. Parameters, sums,
    norms, softmax and loss are float32 always."""

    @property
    def head_size(self) -> int:
        """The width of a head."""
        return self.head_dim or self.embed_dim // self.num_heads

    @property
    def kv_heads(self) -> int:
        """Heads for keys and values."""
        return self.num_kv_heads or self.num_heads

    @property
    def mlp_size(self) -> int:
        """The hidden width of a block's mlp."""
        return self.mlp_dim or 4 * self.embed_dim


@dataclass(frozen=True)
class DataConfig:
    """What is read, and how it is cut into batches."""

    corpus: str = "wikitext-2"
    """wikitext-2, tinyshakespeare, tinyworld, oasst1, oasst1-pairs, tinyworld-chat, tinyworld-questions; the path of a
    file or folder of your own; or text of the Hugging Face hub, hub:OWNER/NAME[@REVISION][:CONFIG]. Text may be a
    mixture, a.jsonl:0.7,b/:0.3: each corpus gives its share of the training windows."""
    tokenizer: str = "word"
    """word, bpe, byte, char: made from the training text; or the path of a tokenizer.json, of a folder with one or with
    GPT-2's vocab.json and merges.txt, or of a run."""
    bpe_pattern: Literal["gpt2", "gpt4"] = "gpt4"
    """bpe: how text is split before pairs are merged, as GPT-2 or GPT-4 did."""
    tokenizer_sample: int = 10**9
    """Bytes of training text, spread over all of it, that a tokenizer is made from at most."""
    text_field: str = "text"
    """JSON lines, parquet and arrow of text: the field that holds it."""
    hub_gb: float = 10.0
    """hub:OWNER/NAME: gigabytes of training text that are read at most; a twentieth of it of validation and test."""
    paragraphs: bool = False
    """Plain text: whether blank lines end documents; otherwise a file is one."""
    skip_bad: bool = False
    """Text: leave out what cannot be read, and say how much; otherwise it is an error."""
    fallback: str | None = None
    """Corpus that stands in, with a loud notice, when the one asked for cannot be found. None: an error."""
    rehearse: str | None = None
    """Finetuning: text that goes on being learned beside, so that it is not forgotten: a corpus, read as train.py would
    read it, and its share of the rows, for example wikitext-2:0.1."""
    oasst_all_paths: bool = False
    """oasst1: every path of a conversation tree; otherwise the best-ranked one."""
    pack_lines: bool = False
    """Text: never cut a line between two windows; lines share a window without seeing each other."""
    mask_documents: bool = False
    """Text: attention stays inside each document; otherwise a window runs over the ends of documents."""
    tokenized: Literal["auto", "true", "false"] = "auto"
    """Text: whether it is split into words by blanks already, punctuation included; auto judges by all its lines."""
    seq_len: int = 128
    """Tokens in a training window; at most model.context_len, with dpo twice that: a prompt and an answer have half."""
    batch_size: int = 32
    """Windows in a step, over all devices."""
    cache_dir: str = "~/.cache/jaxgpt"
    """Where encoded corpora and compiled programs are kept."""


@dataclass(frozen=True)
class OptimizerConfig:
    """How the parameters move."""

    name: Literal["adamw", "muon"] = "adamw"
    """adamw; or muon for the blocks' matrices and adamw for the rest."""
    learning_rate: float = 3e-4
    """Peak learning rate."""
    muon_learning_rate: float = 0.02
    """Peak learning rate of muon's matrices; the rest use learning_rate."""
    weight_decay: float = 0.01
    """Decoupled decay of matrices; biases and norms are left alone."""
    grad_clip: float = 1.0
    """Largest global norm of the gradient; longer ones are scaled down to it."""
    beta1: float = 0.9
    """Adam's memory of the gradient."""
    beta2: float = 0.999
    """Adam's memory of its square."""
    schedule: Literal["constant", "cosine", "wsd"] = "constant"
    """After warm-up: constant; cosine; or wsd, constant and then a linear decay."""
    warmup_steps: int = 0
    """Steps of linear rise from 0."""
    final_lr_fraction: float = 0.1
    """cosine and wsd take their last step at this fraction of the peak."""
    decay_fraction: float = 0.2
    """wsd decays over this last fraction of the steps after warm-up."""
    grad_accumulation_steps: int = 1
    """Micro-batches in a step: less memory, the same gradient."""
    max_consecutive_skips: int = 10
    """Steps in a row without a finite loss and gradient after which the run stops; each of them changes nothing."""


Projections = Literal["query-value", "attention", "mlp", "all"]


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adaptation: a run's parameters stay as they are, and thin matrices beside them are trained."""

    rank: int | None = None
    """Rank of the adapters. None: all parameters are trained."""
    alpha: float = 32.0
    """What the adapters add is multiplied by alpha / rank."""
    projections: Projections = "all"
    """The linear maps of a block that get adapters."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """What finetuning makes likelier: the next token as it was written, the better of two answers, or what is rewarded.

    dpo and grpo compare probabilities with those of the run they start from, so dropout is off in them.
    """

    name: Literal["next_token", "dpo", "grpo"] = "next_token"
    """next_token; dpo learns from pairs of a better and a worse answer; grpo answers, and learns from a reward."""
    beta: float = 0.1
    """dpo: how much likelier than before the better answer need become, less for a larger one; grpo: the weight of the
    KL divergence from the run it starts from."""
    label_smoothing: float = 0.0
    """dpo: the share of pairs that are taken to be the wrong way round."""
    next_token_weight: float = 0.0
    """dpo: weight of the better answer's own loss, in nats, beside that of the pair: their difference alone may grow
    while both become unlikely."""
    group_size: int = 8
    """Answers drawn to each question. grpo: each is measured against the mean of all; divides data.batch_size. dpo on
    conversations whose answers can be checked: the wrong ones are rejected."""
    oversample: int = 1
    """grpo: batch_size / group_size times so many questions are asked. Those whose answers are worth more or less than
    one another come first, as the others teach nothing, until data.batch_size rows are full."""
    updates: int = 1
    """grpo: steps on the same answers; with more than 1 they are of older parameters, and `clip` holds the steps."""
    clip: float = 0.2
    """grpo: how far from 1 the ratio of a token's new probability to that it was drawn with still counts."""
    temperature: float = 1.0
    """grpo, dpo: of the answers drawn; above 0."""
    answer_tokens: int = 32
    """grpo, dpo: longest answer that is drawn, in tokens."""
    reward: str = "exact"
    """grpo: exact, 1 for the corpus's own answer and 0 for any other; or a Python file of yours that defines
    reward(prompt, answer) -> number, the prompt being a list of messages."""
    length_reward: float = 0.0
    """grpo: added to the reward for each token of the answer; below 0 it makes answers shorter."""


@dataclass(frozen=True)
class MeshConfig:
    """How devices are laid out; a single device is (1, 1, 1)."""

    data: int = -1
    """Copies of the model, each on a part of the batch. -1: all devices that are left."""
    fsdp: int = 1
    """Shards of parameters and optimizer state, each with a part of the batch."""
    tensor: int = 1
    """Shards of heads, mlp and vocabulary."""


@dataclass(frozen=True)
class RunConfig:
    """The run: its folder, its length, how often it looks up."""

    name: str | None = None
    """The run lives in FOLDER/NAME. None: named after the config file."""
    folder: str = "runs"
    """Where runs live: a folder, or gs://BUCKET/NAME in Google Cloud Storage."""
    init_from: str | None = None
    """The run folder whose parameters, model and tokenizer finetuning, or training on new text, starts from."""
    seed: int = 0
    """Decides initial parameters, order of the data, and dropout."""
    epochs: int = 1
    """Passes over the training data."""
    train_tokens: float | None = None
    """The run's length in tokens of training, for example 10e9, where the epochs are not to be finished: the schedule
    ends there. None: all of them."""
    max_steps: int | None = None
    """Stop after this many steps; the schedule stays that of all epochs. None: when the epochs are done."""
    log_every: int = 10
    """Steps between two lines of metrics."""
    eval_every: int = 250
    """Steps between two checkpoints, each followed by validation and a sample; also at the end. Samples come six times
    a run at least."""
    save_every_minutes: float = 10.0
    """Minutes after which a checkpoint is due also between evaluations."""
    async_saves: bool | None = None
    """Write checkpoints while training goes on, from a copy in the host's memory. None: on GPUs and TPUs."""
    sample_prompt: str = "The"
    """What the samples during training begin with; for conversations, what the user says."""
    sample_tokens: int = 48
    """Longest sample, in tokens."""
    deterministic: bool = False
    """On a GPU: add in one order, so that a resumed run ends bit for bit as an undisturbed one; CPUs always do."""
    profile: bool = False
    """Write a trace of a few steps into the run's tensorboard folder, for TensorBoard's profile plugin."""
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)
    """Where metrics are shown while the run is under way; metrics.jsonl has them always. Those but the first are extras
    to install."""
    restart: bool = False
    """Start over: an older run of this name is moved aside, not deleted."""


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn."""

    temperature: float = 0.8
    """Lower is more sure of itself; 0 always takes the likeliest token."""
    top_k: int | None = None
    """Draw from the k likeliest tokens only."""
    top_p: float | None = 0.9
    """Draw from the likeliest tokens that together have this probability (Holtzman et al. 2020)."""
    min_p: float | None = None
    """Draw from tokens at least this likely, relative to the likeliest one (Nguyen et al. 2024)."""

    def __post_init__(self) -> None:
        for name, value, ok, allowed in (
            ("temperature", self.temperature, 0 <= self.temperature <= LARGEST, "a number from 0 up"),
            ("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "at least 1"),
            ("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", self.min_p, self.min_p is None or 0 <= self.min_p <= 1, "between 0 and 1"),
        ):
            if not ok:
                raise UserError(f"{name}: {value!r} was given; it must be {allowed}")


def run_dir(config: Config) -> Path:
    """Returns the folder of the run, FOLDER/NAME."""
    assert config.run.name is not None, "load_config names every run"
    folder = config.run.folder
    if "://" in folder:
        return path_of(f"{folder}/{config.run.name}")  # as one: the folder may be a whole bucket
    return Path(folder) / config.run.name


def data_in_context(config: Config) -> DataConfig:
    """Returns how text and conversations are read: in windows that the model has positions for (pairs need not)."""
    return dataclasses.replace(config.data, seq_len=min(config.data.seq_len, config.model.context_len))


HOW_TO_TRAIN = frozenset({"model.attention", "model.dropout", "model.dtype", "model.remat", "model.scan_layers"})
"""Fields of the model that say how it is trained, not what it is: what continues a run may change them."""

TOKENIZER_FIELDS = "tokenizer", "tokenizer_sample", "bpe_pattern"
"""Fields of DataConfig that a tokenizer is made by: what continues a run has that run's."""

OF_THE_RUN = "model.", *(f"data.{name}" for name in TOKENIZER_FIELDS)
"""How fields begin that the run has settled which training continues."""


def differences(one: Config, other: Config) -> list[tuple[str, Any, Any]]:
    """Returns (field, value in one, value in other) for every field in which the two configs differ."""
    found = []
    for section in dataclasses.fields(Config):
        a, b = getattr(one, section.name), getattr(other, section.name)
        for key in dataclasses.fields(a):
            if getattr(a, key.name) != getattr(b, key.name):
                found.append((f"{section.name}.{key.name}", getattr(a, key.name), getattr(b, key.name)))
    return found
