"""The model of docs/book: trained while the first chapter is read, and with all that the book tells of."""

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig

config = Config(
    model=ModelConfig(
        vocab_size=2_000,  # more than the world has words
        context_len=128,
        embed_dim=64,
        num_heads=4,
        num_layers=2,
        dropout=0.0,
        positions="learned",  # a vector of its own for each place, which can be looked at
    ),
    data=DataConfig(corpus="tinyworld", pack_lines=True, seq_len=128, batch_size=8),
    optimizer=OptimizerConfig(learning_rate=5e-3, warmup_steps=20),
    run=RunConfig(
        max_steps=500,  # of the 1,728 of an epoch
        eval_every=10_000,  # at the end only
        log_every=50,
        sample_prompt="One morning",
        sample_tokens=100,
    ),
)
