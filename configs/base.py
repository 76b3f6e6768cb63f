"""The reference run: a 4-layer GPT over the 30,000 most frequent words, one pass over WikiText-2."""

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig

config = Config(
    model=ModelConfig(
        vocab_size=30_000,  # words, special tokens included
        context_len=128,  # positions the model knows
        embed_dim=128,
        num_heads=4,  # 32 dimensions each
        num_layers=4,
        dropout=0.1,
        dtype="auto",  # bfloat16 products where the machine is quick at them
    ),
    data=DataConfig(
        corpus="wikitext-2",
        fallback="tinyworld",  # where WikiText-2 cannot be had; announced, and recorded in the run
        seq_len=128,
        batch_size=32,
    ),
    optimizer=OptimizerConfig(
        name="adamw",
        learning_rate=3e-4,
        schedule="constant",
        weight_decay=0.01,
        grad_clip=1.0,
    ),
    run=RunConfig(
        epochs=1,
        eval_every=255,  # twice in the 510 steps of WikiText-2
        sample_prompt="The game",
    ),
)
