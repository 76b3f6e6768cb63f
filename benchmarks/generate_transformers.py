"""transformers' GPT2LMHeadModel.generate in the race of generation: greedy, with its key-value cache."""

import json
import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.entrant import serve
from benchmarks.shapes import Shape, prompts


def main() -> None:
    arguments = json.loads(sys.argv[1])
    shape = Shape(**arguments["shape"])
    sys.stdout = sys.stderr
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = GPT2Config(
        vocab_size=shape.vocab_size,
        n_positions=shape.seq_len,
        n_embd=shape.embed_dim,
        n_layer=shape.num_layers,
        n_head=shape.num_heads,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = GPT2LMHeadModel(config).to(device=device, dtype=getattr(torch, arguments["dtype"])).eval()
    if arguments["compiled"]:
        model.forward = torch.compile(model.forward)
    tokens = torch.from_numpy(prompts(shape)).long().to(device)

    def make(new_tokens: int) -> None:
        made = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
            do_sample=False,
            cache_implementation="static" if arguments["compiled"] else None,
        )
        assert made.shape[1] == tokens.shape[1] + new_tokens

    def work(amount: int) -> dict:
        began = time.perf_counter()
        for _ in range(amount):
            make(arguments["new_tokens"])
        done = time.perf_counter()
        make(1)
        return {"seconds": done - began, "first_token_seconds": time.perf_counter() - done}

    with torch.inference_mode():
        serve(work)


if __name__ == "__main__":
    main()
