"""GPT-2 of 124M parameters, for a GPU or a TPU: half a million tokens a step of educational web pages from the hub.

The batch is 32 times 16 windows, which is what one H100 trains well; with more devices give fewer accumulation steps.
GPT-2's own vocabulary is taken with --data.tokenizer FOLDER, a folder with its vocab.json and merges.txt.
"""

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig

config = Config(
    model=ModelConfig(
        vocab_size=50_257,
        context_len=1024,
        embed_dim=768,
        num_heads=12,
        num_layers=12,
        dropout=0.0,
        dtype="auto",
    ),
    data=DataConfig(
        corpus="hub:HuggingFaceFW/fineweb-edu:sample-10BT",
        tokenizer="bpe",
        bpe_pattern="gpt2",
        seq_len=1024,
        batch_size=512,
    ),
    optimizer=OptimizerConfig(
        learning_rate=6e-4,
        beta2=0.95,
        weight_decay=0.1,
        schedule="cosine",
        warmup_steps=700,
        grad_accumulation_steps=32,
    ),
    run=RunConfig(eval_every=250, sample_prompt="The most important thing about"),
)
