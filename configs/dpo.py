"""Preferences: of two answers to the same messages a model that talks learns which is the better one.

Give the run to start from with --run.init-from, and pairs of your own with --data.corpus: lines of
{"prompt": [messages], "chosen": "...", "rejected": "..."}.
"""

from jaxgpt.config import Config, DataConfig, ObjectiveConfig, OptimizerConfig, RunConfig

config = Config(
    # The model and the tokenizer are those of init_from.
    data=DataConfig(corpus="oasst1-pairs", seq_len=256, batch_size=16),  # a prompt and an answer have half
    objective=ObjectiveConfig(name="dpo", beta=0.1, next_token_weight=0.1),
    optimizer=OptimizerConfig(learning_rate=5e-5, schedule="cosine", warmup_steps=50, weight_decay=0.0),
    run=RunConfig(
        init_from="runs/oasst",
        epochs=1,
        eval_every=100,
        sample_prompt="What is the capital of France?",
    ),
)
