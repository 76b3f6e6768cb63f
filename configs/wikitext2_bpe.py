"""speedrun with pieces of words: byte-level BPE of 8,192 tokens on WikiText-2, compared by bits per byte."""

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig

config = Config(
    model=ModelConfig(
        vocab_size=8_192,
        context_len=128,
        embed_dim=128,
        num_heads=4,
        num_layers=4,
        dropout=0.0,
        positions="rotary",
        dtype="auto",
    ),
    data=DataConfig(corpus="wikitext-2", tokenizer="bpe", fallback="tinyworld", seq_len=128, batch_size=32),
    optimizer=OptimizerConfig(
        name="muon",
        learning_rate=6e-3,
        muon_learning_rate=0.03,
        schedule="wsd",
        warmup_steps=50,
        decay_fraction=0.8,
        final_lr_fraction=0.02,
        weight_decay=0.01,
    ),
    run=RunConfig(epochs=1, eval_every=255, sample_prompt="The game"),
)
