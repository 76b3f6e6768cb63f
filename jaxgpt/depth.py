"""One dial for the size of a model: from its depth follow width, heads, batch, learning rates and horizon.

The rules are nanochat's (Karpathy 2025), but for Adam alone, whose rate goes with 1 / width (Yang et al. 2022). A
preset's own batch and rates are taken to be right at its own size, and are carried from there to the size asked for.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from jaxgpt.allowed import validate
from jaxgpt.config import Config

HEAD = 64  # width of a head, and so of the model for each block
TOKENS_A_PARAMETER = 20  # of the blocks' matrices (Hoffmann et al. 2022)
BATCH_EXPONENT = 0.383  # the best batch grows with the horizon to this power (Bergsma et al. 2025)
WIDTH_EXPONENT = {"adamw": -1.0, "muon": -0.5}  # Adam's rate grows with the width to this power
BYTES_A_TOKEN = 5  # of the hub's text, with some to spare
LONGEST_WARMUP = 0.1  # of the steps


def of_depth(config: Config, arguments: Sequence[str]) -> Config:
    """Returns a preset at the depth that --model.depth asks for, or itself; tyro refuses what is no number."""
    given = [config.model.depth]
    for place, here in enumerate(arguments):
        name, equals, value = here.partition("=")
        if name == "--model.depth":
            value = value if equals else "".join(arguments[place + 1 : place + 2])
            given.append(int(value) if value.isascii() and value.isdecimal() else None)
    depth = given[-1]
    if depth is None:
        return config
    validate(replace(config, model=replace(config.model, depth=depth)))
    return at_depth(config, depth)


def at_depth(config: Config, depth: int) -> Config:
    """Returns the config with a model of so many blocks, and what follows from that.

    width       64 for each block, and a head for each 64
    horizon     20 tokens for each parameter of the blocks' matrices: run.train_tokens
    batch       grows with the horizon to the power of 0.383, in powers of two
    rates       grow with the square root of the batch; that of adamw, which moves all parameters, with 1 / width; where
                muon moves the matrices its own not with the width, and that of the others with 1 / sqrt(width)
    warm-up     as it is, at most a tenth of the steps
    """
    model, data, optimizer, run = config.model, config.data, config.optimizer, config.run
    width = HEAD * depth
    tokens = TOKENS_A_PARAMETER * matrices(depth, width)
    longer = matrices(depth, width) / matrices(model.num_layers, model.embed_dim)
    doublings = round(BATCH_EXPONENT * math.log2(longer))
    batch_size = max(1, int(data.batch_size * 2.0**doublings))
    micro_batch = data.batch_size // optimizer.grad_accumulation_steps
    larger = math.sqrt(batch_size / data.batch_size)
    wider = (width / model.embed_dim) ** WIDTH_EXPONENT[optimizer.name]
    steps = max(1, tokens // (batch_size * data.seq_len))
    return replace(
        config,
        model=replace(
            model,
            depth=depth,
            num_layers=depth,
            embed_dim=width,
            num_heads=depth,
            num_kv_heads=None,
            head_dim=None,
            mlp_dim=None,
        ),
        data=replace(data, batch_size=batch_size, hub_gb=max(data.hub_gb, round(tokens * BYTES_A_TOKEN / 1e9, 1))),
        optimizer=replace(
            optimizer,
            learning_rate=rounded(optimizer.learning_rate * larger * wider),
            muon_learning_rate=rounded(optimizer.muon_learning_rate * larger),
            grad_accumulation_steps=max(1, batch_size // micro_batch),
            warmup_steps=min(optimizer.warmup_steps, math.ceil(steps * LONGEST_WARMUP)),
        ),
        run=replace(run, train_tokens=steps * batch_size * data.seq_len),
    )


def matrices(depth: int, width: int) -> int:
    """Returns the parameters of the blocks' matrices: four of attention, and an mlp four times as wide."""
    return 12 * depth * width**2


def rounded(rate: float) -> float:
    """Returns a rate with three digits, as people write it."""
    return float(f"{rate:.3g}")
