"""The models that are raced, the arithmetic they need, and the tokens all of them are fed."""

from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """A GPT-2-like model with a tied head, and the batch it is trained on."""

    vocab_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    seq_len: int
    batch_size: int
    dropout: float

    @property
    def tokens(self) -> int:
        """Tokens in a step."""
        return self.batch_size * self.seq_len

    @property
    def matrix_params(self) -> int:
        """Parameters that are multiplied with every token: 12 D^2 in a block, and the head."""
        return 12 * self.num_layers * self.embed_dim**2 + self.vocab_size * self.embed_dim

    @property
    def flops_per_token(self) -> int:
        """6 N + 12 L D T: forward and backward of the matrices and of (unmasked) attention (Chowdhery et al. 2022)."""
        return 6 * self.matrix_params + 12 * self.num_layers * self.embed_dim * self.seq_len


SHAPES = {
    "base": Shape(30_000, 128, 4, 4, 128, 32, 0.1),
    "tiny": Shape(1_000, 128, 4, 4, 128, 32, 0.1),
    "character": Shape(65, 384, 6, 6, 256, 16, 0.1),
    "gpt2": Shape(50_257, 768, 12, 12, 1_024, 1, 0.1),
}

PROMPT_TOKENS = 28
LEARNING_RATE, WEIGHT_DECAY, GRAD_CLIP, BETAS = 3e-4, 0.01, 1.0, (0.9, 0.999)


def text(shape: Shape, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (tokens, targets) of a step, [batch, seq_len] each, the same for every entrant.

    Words are drawn by Zipf's law, and every second one is decided by the word before it: a loss has something to learn.
    """
    random = np.random.default_rng([7, step])
    shape_BT = shape.batch_size, shape.seq_len + 1
    ids = (random.zipf(1.2, shape_BT) - 1) % shape.vocab_size
    follows = random.random(shape_BT) < 0.5
    for t in range(1, shape_BT[1]):
        ids[:, t] = np.where(follows[:, t], (ids[:, t - 1] * 31 + 17) % shape.vocab_size, ids[:, t])
    return ids[:, :-1].astype(np.int32), ids[:, 1:].astype(np.int32)


def as_dict(shape: Shape) -> dict:
    """Returns the shape with its derived figures, for the JSON file."""
    return asdict(shape) | {
        "tokens_per_step": shape.tokens,
        "matrix_params": shape.matrix_params,
        "flops_per_token": shape.flops_per_token,
    }


def prompts(shape: Shape) -> np.ndarray:
    """Returns a prompt of PROMPT_TOKENS ids for every row of the batch."""
    return np.random.default_rng(7).integers(0, shape.vocab_size, (shape.batch_size, PROMPT_TOKENS)).astype(np.int32)
