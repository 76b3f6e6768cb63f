"""The showcase, part three: the model of configs/tiny_chat.py answers, and the world says whether it is right."""

from jaxgpt.config import Config, DataConfig, ObjectiveConfig, OptimizerConfig, RunConfig

config = Config(
    # The model and the tokenizer are those of init_from.
    data=DataConfig(corpus="tinyworld-chat", seq_len=128, batch_size=64),
    objective=ObjectiveConfig(name="grpo", group_size=8, asked=16, beta=0.01, answer_tokens=24),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=5, weight_decay=0.0, beta2=0.99),
    run=RunConfig(
        init_from="runs/tiny_chat",
        epochs=6,
        max_steps=400,
        eval_every=25,
        log_every=5,
        sample_prompt="What does a cow eat?",
    ),
)
