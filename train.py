"""Pretraining: text becomes a language model.

python train.py --config configs/base.py
"""

import shlex

from jaxgpt.command_line import main, parse_train
from jaxgpt.config import Sampling, check_window
from jaxgpt.errors import UserError


def train() -> None:
    arguments = parse_train("configs/base.py", __doc__)
    config = arguments.settings
    check_window(config)
    if config.run.init_from is not None:
        raise UserError("run.init_from: train.py starts from nothing; finetune.py starts from a run")

    # JAX and what stands on it take seconds to import: --help and a typo should not wait for them.
    import jax

    from jaxgpt.config import run_dir
    from jaxgpt.data.prepare import prepare_text, require_enough
    from jaxgpt.inference.generate import continue_text, encode_prompt
    from jaxgpt.report.write import report_after
    from jaxgpt.text.corpora import load_text
    from jaxgpt.text.tokenizer import SPECIAL, count_words, tokenizer_from_counts
    from jaxgpt.training.loop import fit, summary
    from jaxgpt.training.processes import from_first, join_processes
    from jaxgpt.training.run import Run, sized
    from jaxgpt.training.start import announce, plan, settle_dtype, start_jax

    start_jax(config.data.cache_dir, run_ahead=False)
    join_processes()
    config = settle_dtype(config)
    corpus = load_text(config.data.corpus, config.data.fallback)
    counts = count_words(corpus.splits["train"])
    tokenizer = tokenizer_from_counts(counts, config.model.vocab_size)
    data = prepare_text(corpus, tokenizer, config.data)
    announce(data)
    types = f"{len(counts):,} types of words in train, <eos> counted"
    print(f"  {types}; vocabulary of {tokenizer.vocab_size:,}, {len(SPECIAL)} of them special tokens")
    model = sized(config, tokenizer).model
    require_enough(data, config.data.batch_size)
    prompt = encode_prompt(config.run.sample_prompt, tokenizer, model)
    if arguments.dry_run:
        print(plan(sized(config, tokenizer), tokenizer, data))
        return

    run = Run(run_dir(config), config, tokenizer, data.manifest)

    def sample(params) -> str:
        key = jax.random.key(config.run.seed)
        return "".join(continue_text(params, model, tokenizer, prompt, key, Sampling(), config.run.sample_tokens))

    result = fit(run, data.sources["train"], data.sources["valid"], sample)
    talk = "configs/tiny_chat.py" if data.manifest["name"] == "tinyworld" else "configs/oasst.py"
    report = from_first(lambda: report_after(run.path))
    next_commands = [
        f"python -m jaxgpt sample {run.path} --prompt {shlex.quote(config.run.sample_prompt)}",
        f"python -m jaxgpt evaluate {run.path} --split test",
        f"python finetune.py --config {talk} --run.init-from {run.path}",
    ]
    print(summary(run, result, "a language model", report, next_commands))


if __name__ == "__main__":
    main(train)
