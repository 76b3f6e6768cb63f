"""The showcase, part three by another way: the model learns to tell its own wrong answers from the right ones."""

from jaxgpt.config import Config, DataConfig, ObjectiveConfig, OptimizerConfig, RunConfig

config = Config(
    # The model and the tokenizer are those of init_from, which makes the pairs too.
    data=DataConfig(
        corpus="tinyworld-questions",
        rehearse="tinyworld:0.2",
        pack_lines=True,
        seq_len=256,  # a prompt and an answer have half
        batch_size=8,
    ),
    objective=ObjectiveConfig(name="dpo", beta=0.1, next_token_weight=1.0, group_size=4, answer_tokens=16),
    optimizer=OptimizerConfig(
        name="muon",
        learning_rate=5e-4,
        muon_learning_rate=0.005,
        schedule="cosine",
        warmup_steps=10,
        weight_decay=0.0,
    ),
    run=RunConfig(
        init_from="runs/tiny_chat",
        epochs=1,
        eval_every=100,
        log_every=10,
        sample_prompt="What does a cow eat?",
    ),
)
