"""Finetuning by adapters: a model of any size learns conversations, and 1 % of its numbers or so are trained and saved.

Give the run to start from, an imported one for example, with --run.init-from; it must stay where it is.
"""

from jaxgpt.config import Config, DataConfig, LoraConfig, OptimizerConfig, RunConfig

config = Config(
    # The model and the tokenizer are those of init_from.
    data=DataConfig(corpus="oasst1", fallback="tinyworld-chat", seq_len=128, batch_size=16),
    optimizer=OptimizerConfig(learning_rate=2e-3, schedule="cosine", warmup_steps=50, weight_decay=0.0),
    lora=LoraConfig(rank=16, alpha=32.0, projections="all"),
    run=RunConfig(
        init_from="runs/base",
        epochs=3,
        eval_every=200,
        sample_prompt="What is the capital of France?",
    ),
)
