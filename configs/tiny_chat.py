"""The showcase, part two: the model of configs/tiny.py learns to answer questions about its world."""

from jaxgpt.config import Config, DataConfig, OptimizerConfig, RunConfig

config = Config(
    # The model and the tokenizer are those of init_from.
    data=DataConfig(
        corpus="tinyworld-chat",
        rehearse="tinyworld:0.1",  # or it forgets how to tell a story
        pack_lines=True,
        seq_len=128,
        batch_size=8,
    ),
    optimizer=OptimizerConfig(
        name="muon",
        learning_rate=2e-3,
        muon_learning_rate=0.01,
        schedule="cosine",
        warmup_steps=20,
        final_lr_fraction=0.02,
    ),
    run=RunConfig(
        init_from="runs/tiny",
        epochs=1,
        eval_every=10_000,  # at the end only
        log_every=100,
        sample_prompt="What does a cow eat?",
    ),
)
