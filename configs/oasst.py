"""Finetuning on OpenAssistant conversations, from the run of configs/base.py."""

from jaxgpt.config import Config, DataConfig, OptimizerConfig, RunConfig

config = Config(
    # The model and the tokenizer are those of init_from.
    data=DataConfig(
        corpus="oasst1",
        fallback="tinyworld-chat",  # where oasst1 cannot be had; announced, and recorded in the run
        seq_len=128,
        batch_size=32,
    ),
    optimizer=OptimizerConfig(
        learning_rate=1e-3,
        schedule="cosine",
        warmup_steps=20,
        weight_decay=0.01,
        grad_clip=1.0,
    ),
    run=RunConfig(
        init_from="runs/base",
        epochs=6,
        eval_every=100,
        sample_prompt="What is the capital of France?",
    ),
)
