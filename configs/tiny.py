"""The showcase, part one: a small model that learns to tell stories of the embedded world in a few minutes."""

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig

config = Config(
    model=ModelConfig(
        vocab_size=2_000,  # more than the world has words
        context_len=128,
        embed_dim=128,
        num_heads=4,
        num_layers=4,
        dropout=0.0,  # the text is endless compared with the model: nothing to overfit
    ),
    data=DataConfig(corpus="tinyworld", seq_len=128, batch_size=32),
    optimizer=OptimizerConfig(
        learning_rate=3e-3,
        schedule="cosine",
        warmup_steps=50,
        final_fraction=0.02,
    ),
    run=RunConfig(
        epochs=3,
        eval_every=400,
        sample_prompt="One morning",
        sample_tokens=100,
    ),
)
