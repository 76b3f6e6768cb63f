"""Finetuning: a pretrained run becomes a model that talks.

python finetune.py --config configs/oasst.py
"""

import dataclasses
import shlex

from jaxgpt.command_line import main, parse_train
from jaxgpt.config import ModelConfig, Sampling, check_window
from jaxgpt.errors import UserError


def finetune() -> None:
    arguments = parse_train("configs/oasst.py", __doc__)
    config = arguments.settings
    if config.run.init_from is None:
        raise UserError("run.init_from: no run was given; name the pretrained one, for example runs/base")
    if config.model != ModelConfig():
        raise UserError(f"model: finetuning takes the model from {config.run.init_from}; leave these settings out")

    # JAX and what stands on it take seconds to import: --help and a typo should not wait for them.
    import jax

    from jaxgpt.config import run_dir
    from jaxgpt.data.manifest import data_name
    from jaxgpt.data.prepare import prepare_chat, require_enough
    from jaxgpt.devices.distributed import join_processes, on_primary
    from jaxgpt.devices.setup import start_jax
    from jaxgpt.inference.chat import fit_history, reply
    from jaxgpt.report.build import report_after
    from jaxgpt.run.folder import Run, sized
    from jaxgpt.run.load import load_trained
    from jaxgpt.text.conversation import show_mask
    from jaxgpt.text.corpora import load_chat
    from jaxgpt.training.plan import announce, plan
    from jaxgpt.training.summary import summary
    from jaxgpt.training.trainer import fit

    start_jax(config.data.cache_dir, run_ahead=False)
    join_processes()
    pretrained = load_trained(config.run.init_from)
    tokenizer = pretrained.run.tokenizer
    config = dataclasses.replace(config, model=pretrained.run.config.model)
    check_window(config)
    print(f"from: {pretrained.run.path}, step {pretrained.step}, trained on {data_name(pretrained.run.data)}")
    corpus = load_chat(config.data.corpus, config.data.fallback, config.data.oasst_all_paths)
    data = prepare_chat(corpus, tokenizer, config.data)
    announce(data)
    require_enough(data, config.data.batch_size)
    print("an example, with what the model must learn to say in [brackets]:")
    print(show_mask(data.example, tokenizer))
    if arguments.dry_run:
        print(plan(sized(config, tokenizer), tokenizer, data))
        return

    run = Run(run_dir(config), config, tokenizer, data.manifest)
    model = sized(config, tokenizer).model
    prompt = fit_history([{"role": "user", "content": config.run.sample_prompt}], tokenizer, model.context_len)

    def sample(params) -> str:
        key = jax.random.key(config.run.seed)
        pieces = reply(params, model, tokenizer, prompt, key, Sampling(), config.run.sample_tokens)
        return f"you> {config.run.sample_prompt}\nmodel> {''.join(pieces)}"

    result = fit(run, data.sources["train"], data.sources["valid"], sample, init_params=pretrained.params)
    report = on_primary(lambda: report_after(run.path))
    next_commands = [
        ["python", "-m", "jaxgpt", "chat", str(run.path)],
        ["python", "-m", "jaxgpt", "evaluate", str(run.path), "--split", "valid"],
    ]
    print(summary(run, result, "a model that talks", report, list(map(shlex.join, next_commands))))


if __name__ == "__main__":
    main(finetune)
