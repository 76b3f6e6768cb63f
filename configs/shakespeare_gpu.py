"""Characters: nanoGPT's first example as published, for a GPU: 6 layers of 384, 256 characters in view.

The best validation loss of nanoGPT's own run is 1.4697.
"""

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig

config = Config(
    model=ModelConfig(context_len=256, embed_dim=384, num_heads=6, num_layers=6, dropout=0.2, dtype="auto"),
    data=DataConfig(corpus="tinyshakespeare", tokenizer="char", fallback="tinyworld", seq_len=256, batch_size=64),
    optimizer=OptimizerConfig(learning_rate=1e-3, beta2=0.99, schedule="cosine", warmup_steps=100, weight_decay=0.1),
    run=RunConfig(epochs=82, max_steps=5_000, eval_every=250, sample_prompt="ROMEO:", sample_tokens=400),
)
