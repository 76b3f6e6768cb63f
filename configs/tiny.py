"""The showcase, part one: a small model that learns to tell stories of the embedded world in a few minutes."""

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig

config = Config(
    model=ModelConfig(
        vocab_size=2_000,  # more than the world has words
        context_len=128,
        embed_dim=128,
        num_heads=4,
        num_layers=3,
        dropout=0.0,
        positions="rotary",
    ),
    data=DataConfig(corpus="tinyworld", pack_lines=True, seq_len=128, batch_size=8),
    optimizer=OptimizerConfig(
        name="muon",
        learning_rate=3e-3,
        muon_learning_rate=0.015,
        schedule="wsd",
        decay_fraction=0.5,  # half the steps at the full rate: that is where the model learns to look things up
        warmup_steps=50,
        final_lr_fraction=0.02,
    ),
    run=RunConfig(
        epochs=1,
        eval_every=10_000,  # at the end only
        log_every=100,
        sample_prompt="One morning",
        sample_tokens=100,
    ),
)
