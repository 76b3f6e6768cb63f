"""Pretraining: text becomes a language model.

python train.py --config configs/base.py
python train.py --config configs/base.py --run.init-from runs/base --data.corpus more.txt --run.name more
"""

import dataclasses
import shlex

from jaxgpt.command_line import main, parse_train
from jaxgpt.config import Sampling, check_window
from jaxgpt.errors import UserError


def train() -> None:
    arguments = parse_train("configs/base.py", __doc__)
    config = arguments.settings
    if config.run.init_from is None:
        check_window(config)
    elif arguments.model_given:
        raise UserError(f"model: going on takes the model from {config.run.init_from}; leave these settings out")

    # JAX and what stands on it take seconds to import: --help and a typo should not wait for them.
    import jax

    from jaxgpt.config import run_dir
    from jaxgpt.data.manifest import lines_are_documents
    from jaxgpt.data.prepare import decide_tokenized, prepare_text, require_enough, require_known, require_text
    from jaxgpt.devices.distributed import join_processes, on_primary
    from jaxgpt.devices.setup import start_jax
    from jaxgpt.inference.generate import continue_text, encode_prompt
    from jaxgpt.report.build import report_after
    from jaxgpt.run.folder import Run, sized
    from jaxgpt.text.corpora import load_text
    from jaxgpt.training.plan import announce, build_vocabulary, go_on_from, plan, settle_dtype, tell_size
    from jaxgpt.training.summary import summary
    from jaxgpt.training.trainer import fit

    start_jax(config.data.cache_dir, run_ahead=False)
    join_processes()
    pretrained = None
    if config.run.init_from is not None:
        pretrained, model = go_on_from(config)
        config = dataclasses.replace(config, model=model)
        check_window(config)
    config = settle_dtype(config)
    corpus = load_text(config.data.corpus, config.data.fallback)
    require_text(corpus, config.data)
    tell_size(corpus)
    tokenized = decide_tokenized(corpus, config.data)
    if pretrained is None:
        tokenizer, vocabulary = build_vocabulary(corpus, config.model.vocab_size, tokenized)
    else:
        tokenizer, vocabulary = pretrained.run.tokenizer, f"vocabulary: that of {pretrained.run.path}"
    data = prepare_text(corpus, tokenizer, config.data, tokenized)
    announce(data)
    print(f"  {vocabulary}")
    model = sized(config, tokenizer).model
    require_enough(data, config.data.batch_size)
    if warning := require_known(data):
        print(f"WARNING: {warning}")
    prompt = encode_prompt(config.run.sample_prompt, tokenizer, model)
    if arguments.dry_run:
        print(plan(sized(config, tokenizer), tokenizer, data))
        return

    run = Run(run_dir(config), config, tokenizer, data.manifest)
    to_line_end = lines_are_documents(data.manifest, config.data)

    def sample(params) -> str:
        key, count = jax.random.key(config.run.seed), config.run.sample_tokens
        return "".join(continue_text(params, model, tokenizer, prompt, key, Sampling(), count, to_line_end))

    init_params = None if pretrained is None else pretrained.params
    result = fit(run, data.sources["train"], data.sources["valid"], sample, init_params)
    talk = "configs/tiny_chat.py" if data.manifest["name"] == "tinyworld" else "configs/oasst.py"
    report = on_primary(lambda: report_after(run.path))
    next_commands = [
        ["python", "-m", "jaxgpt", "sample", str(run.path), "--prompt", config.run.sample_prompt],
        ["python", "-m", "jaxgpt", "evaluate", str(run.path), "--split", "test" if "test" in data.sources else "valid"],
        ["python", "finetune.py", "--config", talk, "--run.init-from", str(run.path)],
    ]
    print(summary(run, result, "a language model", report, list(map(shlex.join, next_commands))))


if __name__ == "__main__":
    main(train)
