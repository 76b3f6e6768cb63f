"""Characters: nanoGPT's first example at the size of a laptop, a minute or two on 2 cores.

A 4-layer GPT that sees 64 characters of Shakespeare at a time. nanoGPT's CPU settings end at a validation loss of 1.88.
"""

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig

config = Config(
    model=ModelConfig(context_len=64, embed_dim=128, num_heads=4, num_layers=4, dropout=0.0, dtype="auto"),
    data=DataConfig(
        corpus="tinyshakespeare",  # or any file: --data.corpus FILE
        tokenizer="char",
        fallback="tinyworld",
        seq_len=64,
        batch_size=12,
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3, beta2=0.99, schedule="cosine", warmup_steps=100, weight_decay=0.1),
    run=RunConfig(epochs=2, eval_every=500, sample_prompt="ROMEO:", sample_tokens=200),
)
