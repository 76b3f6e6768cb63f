"""Simple stories in pieces of words: a BPE learned from them, any file or folder of stories.

python train.py --config configs/stories.py --data.corpus my_folder/
"""

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig

config = Config(
    model=ModelConfig(
        vocab_size=4_096,
        context_len=128,
        embed_dim=128,
        num_heads=4,
        num_layers=4,
        dropout=0.0,
        positions="rotary",
        dtype="auto",
    ),
    data=DataConfig(
        corpus="tinyworld",  # the embedded stories, whose entropy is known
        tokenizer="bpe",
        seq_len=128,
        batch_size=16,
    ),
    optimizer=OptimizerConfig(
        name="muon",
        learning_rate=2e-3,
        muon_learning_rate=0.02,
        schedule="wsd",
        warmup_steps=50,
        decay_fraction=0.5,
        weight_decay=0.01,
    ),
    run=RunConfig(epochs=1, eval_every=250, sample_prompt="One day,", sample_tokens=100),
)
