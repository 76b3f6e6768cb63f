"""jaxgpt in the race: the program's own compiled step, over the program's own batches."""

import json
import sys
import time

from benchmarks.entrant import serve
from benchmarks.shapes import BETAS, GRAD_CLIP, LEARNING_RATE, WEIGHT_DECAY, Shape, text
from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig
from jaxgpt.config_json import from_json


def model_config(shape: Shape, dtype: str) -> ModelConfig:
    """Returns jaxgpt's model of this shape."""
    return ModelConfig(
        vocab_size=shape.vocab_size,
        context_len=shape.seq_len,
        embed_dim=shape.embed_dim,
        num_heads=shape.num_heads,
        num_layers=shape.num_layers,
        dropout=shape.dropout,
        dtype=dtype,
    )


def config_of(shape: Shape, dtype: str, cache_dir: str) -> Config:
    """Returns the settings that all entrants have."""
    return Config(
        model=model_config(shape, dtype),
        data=DataConfig(seq_len=shape.seq_len, batch_size=shape.batch_size, cache_dir=cache_dir),
        optimizer=OptimizerConfig(
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            grad_clip=GRAD_CLIP,
            beta1=BETAS[0],
            beta2=BETAS[1],
        ),
    )


def main() -> None:
    arguments = json.loads(sys.argv[1])
    shape = Shape(**arguments["shape"])

    from jaxgpt.devices.setup import start_jax

    if "config" in arguments:
        config = from_json(arguments["config"], "the case")
    else:
        config = config_of(shape, arguments["dtype"], arguments["cache_dir"])
    sys.stdout = sys.stderr  # answers alone go to the parent
    start_jax(config.data.cache_dir, run_ahead=False)

    import jax
    import numpy as np

    from jaxgpt.data.batch import Batch
    from jaxgpt.devices.mesh import make_mesh
    from jaxgpt.training.optimizer import make_optimizer
    from jaxgpt.training.plan import settle
    from jaxgpt.training.step import compile_steps

    config, _ = settle(config)
    compiled = compile_steps(config, make_optimizer(config.optimizer, 1_000_000), make_mesh(config))
    state, step = compiled.init(), 0

    def work(num_steps: int) -> dict:
        nonlocal state, step
        losses, texts = [], [text(shape, step + i) for i in range(num_steps)]
        began = time.perf_counter()
        for tokens, targets in texts:
            batch = compiled.put(Batch(tokens, targets, np.ones(tokens.shape, np.float32)))
            state, metrics = compiled.train_step(state, batch)
            losses.append(metrics["loss"])
        step += num_steps
        return {
            "losses": [float(loss) for loss in jax.device_get(losses)],
            "seconds": time.perf_counter() - began,
            "device_mb": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 1e6,
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
        }

    serve(work)


if __name__ == "__main__":
    main()
