"""jaxgpt in the race of generation: the program's own stream of tokens, greedy."""

import json
import sys
import time

from benchmarks.entrant import serve
from benchmarks.shapes import Shape, prompts
from benchmarks.train_jaxgpt import model_config
from jaxgpt.config import Sampling


def main() -> None:
    arguments = json.loads(sys.argv[1])
    shape = Shape(**arguments["shape"])

    from jaxgpt.devices.setup import start_jax

    start_jax(arguments["cache_dir"])

    import jax
    import numpy as np
    from flax import linen as nn

    from jaxgpt.inference.generate import stream
    from jaxgpt.model.gpt import GPT

    model = model_config(shape, arguments["dtype"])
    tokens = np.zeros((1, 8), np.int32)
    params = nn.unbox(jax.jit(GPT(model).init)(jax.random.key(0), tokens)["params"])
    nothing_banned = np.zeros(shape.vocab_size, bool)
    never = -1  # no token stops the text

    def work(amount: int) -> dict:
        first = []
        for _ in range(amount):
            began = time.perf_counter()
            pieces = stream(
                params,
                model,
                prompts(shape).tolist(),
                jax.random.key(0),
                Sampling(temperature=0.0),
                nothing_banned,
                never,
                arguments["new_tokens"],
            )
            next(pieces)
            first.append(time.perf_counter() - began)
            made = 1 + sum(1 for _ in pieces)
            assert made == arguments["new_tokens"]
        return {"first_token_seconds": min(first)}

    serve(work)


if __name__ == "__main__":
    main()
