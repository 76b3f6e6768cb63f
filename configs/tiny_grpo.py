"""The showcase, part three: the model of configs/tiny_chat.py answers, and the world says whether it is right."""

from jaxgpt.config import Config, DataConfig, ObjectiveConfig, OptimizerConfig, RunConfig

config = Config(
    # The model and the tokenizer are those of init_from.
    data=DataConfig(
        corpus="tinyworld-questions",
        rehearse="tinyworld:0.25",  # 4 rows of 16
        pack_lines=True,
        seq_len=128,
        batch_size=16,
    ),
    objective=ObjectiveConfig(
        name="grpo",
        beta=0.01,
        group_size=4,
        oversample=32,  # most questions are answered right four times, and teach nothing: 128 are asked for 12 rows
        answer_tokens=16,
    ),
    optimizer=OptimizerConfig(
        name="muon",
        learning_rate=5e-4,
        muon_learning_rate=0.005,
        schedule="cosine",
        final_lr_fraction=0.05,
        warmup_steps=5,
    ),
    run=RunConfig(
        init_from="runs/tiny_chat",
        epochs=2,
        eval_every=100,
        log_every=10,
        sample_prompt="What does a cow eat?",
    ),
)
