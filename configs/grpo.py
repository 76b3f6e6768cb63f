"""Rewards: a model that talks answers, a reward says how good each answer is, and better ones become likelier.

Give the run to start from with --run.init-from, questions with --data.corpus (conversations; their last answers are not
shown), and --objective.reward, a Python file of yours with reward(prompt, answer) -> number.
"""

from jaxgpt.config import Config, DataConfig, ObjectiveConfig, OptimizerConfig, RunConfig

config = Config(
    # The model and the tokenizer are those of init_from.
    data=DataConfig(corpus="oasst1", fallback="tinyworld-chat", seq_len=128, batch_size=64),
    objective=ObjectiveConfig(name="grpo", group_size=8, beta=0.05, answer_tokens=32),
    optimizer=OptimizerConfig(learning_rate=5e-5, warmup_steps=10, weight_decay=0.0),
    run=RunConfig(
        init_from="runs/oasst",
        epochs=1,
        eval_every=50,
        sample_prompt="What is the capital of France?",
    ),
)
