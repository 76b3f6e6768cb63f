"""The showcase, part two: the model of configs/tiny.py learns to answer questions about its world."""

from jaxgpt.config import Config, DataConfig, OptimizerConfig, RunConfig

config = Config(
    # The model and the tokenizer are those of init_from.
    data=DataConfig(corpus="tinyworld-chat", seq_len=128, batch_size=32),
    optimizer=OptimizerConfig(
        learning_rate=1e-3,
        schedule="cosine",
        warmup_steps=20,
        final_fraction=0.02,
    ),
    run=RunConfig(
        init_from="runs/tiny",
        epochs=1,
        eval_every=300,
        sample_prompt="What does a cow eat?",
    ),
)
