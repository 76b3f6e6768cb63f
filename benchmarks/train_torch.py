"""The peers in the race, each as its users train it: PyTorch's own blocks, transformers, or a file like nanoGPT's."""

import contextlib
import importlib.util
import json
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from benchmarks.entrant import serve
from benchmarks.shapes import BETAS, GRAD_CLIP, LEARNING_RATE, WEIGHT_DECAY, Shape, text


class TorchBlocks(nn.Module):
    """What PyTorch offers out of the box: nn.Embedding and nn.TransformerEncoder under a causal mask."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(shape.vocab_size, shape.embed_dim)
        self.position_embedding = nn.Embedding(shape.seq_len, shape.embed_dim)
        self.dropout = nn.Dropout(shape.dropout)
        layer = nn.TransformerEncoderLayer(
            shape.embed_dim,
            shape.num_heads,
            4 * shape.embed_dim,
            shape.dropout,
            activation=functional.gelu,
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(
            layer, shape.num_layers, norm=nn.LayerNorm(shape.embed_dim), enable_nested_tensor=False
        )
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(shape.seq_len))
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.token_embedding(tokens) + self.position_embedding(positions))
        logits = self.blocks(x, mask=self.mask, is_causal=True) @ self.token_embedding.weight.T
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Transformers(nn.Module):
    """transformers' GPT2LMHeadModel."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        self.model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=shape.vocab_size,
                n_positions=shape.seq_len,
                n_embd=shape.embed_dim,
                n_layer=shape.num_layers,
                n_head=shape.num_heads,
                resid_pdrop=shape.dropout,
                embd_pdrop=shape.dropout,
                attn_pdrop=shape.dropout,
                use_cache=False,
            )
        )

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.model(tokens).logits
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class FromFile(nn.Module):
    """A file with nanoGPT's or nanochat's interface: GPT(GPTConfig(...)), called with tokens and targets."""

    def __init__(self, shape: Shape, path: str) -> None:
        super().__init__()
        sys.path[:0] = [str(Path(path).parent), str(Path(path).parent.parent)]
        spec = importlib.util.spec_from_file_location("peer_model", path)
        assert spec, path
        assert spec.loader, path
        module = importlib.util.module_from_spec(spec)
        sys.modules["peer_model"] = module
        spec.loader.exec_module(module)
        wanted = {
            "block_size": shape.seq_len,
            "sequence_len": shape.seq_len,
            "vocab_size": shape.vocab_size,
            "n_layer": shape.num_layers,
            "n_head": shape.num_heads,
            "n_kv_head": shape.num_heads,
            "n_embd": shape.embed_dim,
            "dropout": shape.dropout,
            "bias": True,
        }
        known = module.GPTConfig.__dataclass_fields__
        self.model = module.GPT(module.GPTConfig(**{name: value for name, value in wanted.items() if name in known}))
        if hasattr(self.model, "init_weights"):
            self.model.init_weights()

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        result = self.model(tokens, targets)
        return result[1] if isinstance(result, tuple) else result


def make_peer(kind: str, shape: Shape) -> nn.Module:
    """Returns the peer called torch, transformers, or by the path of its file."""
    if kind == "torch":
        return TorchBlocks(shape)
    return Transformers(shape) if kind == "transformers" else FromFile(shape, kind)


def main() -> None:
    arguments = json.loads(sys.argv[1])
    shape = Shape(**arguments["shape"])
    sys.stdout = sys.stderr  # answers alone go to the parent; peers may print
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    model = make_peer(arguments["peer"], shape).to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )
    bfloat16 = arguments["dtype"] == "bfloat16"
    forward = torch.compile(model) if arguments["compiled"] else model
    step = 0

    def work(num_steps: int) -> dict:
        nonlocal step
        losses, texts = [], [text(shape, step + i) for i in range(num_steps)]
        began = time.perf_counter()
        for pair in texts:
            tokens, targets = (torch.from_numpy(ids).long().to(device) for ids in pair)
            with torch.autocast(device, dtype=torch.bfloat16) if bfloat16 else contextlib.nullcontext():
                loss = forward(tokens, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        step += num_steps
        return {
            "losses": [float(loss) for loss in losses],
            "seconds": time.perf_counter() - began,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "device_mb": torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else 0.0,
        }

    serve(work)


if __name__ == "__main__":
    main()
