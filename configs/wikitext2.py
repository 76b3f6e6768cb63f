"""WikiText-2 read six times: what half an hour on two cores makes of base's size.

The recipe of speedrun.py, with dropout and weight decay against learning the text by heart.
"""

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig

config = Config(
    model=ModelConfig(
        vocab_size=30_000,
        context_len=128,
        embed_dim=128,
        num_heads=4,
        num_layers=4,
        dropout=0.2,
        positions="rotary",
        dtype="auto",
    ),
    data=DataConfig(corpus="wikitext-2", fallback="tinyworld", seq_len=128, batch_size=32),
    optimizer=OptimizerConfig(
        name="muon",
        learning_rate=6e-3,
        muon_learning_rate=0.03,
        schedule="wsd",
        warmup_steps=50,
        decay_fraction=0.8,
        final_lr_fraction=0.02,
        weight_decay=0.1,
    ),
    run=RunConfig(
        epochs=6,
        eval_every=510,  # once an epoch
        sample_prompt="The game",
    ),
)
