"""Pretraining: text becomes a language model.

Examples:
  python train.py --config configs/base.py
  python train.py --config configs/base.py --run.init-from runs/base --data.corpus more.txt --run.name more
  jaxgpt train base, from any folder
"""

import shlex
from collections.abc import Sequence

from jaxgpt.allowed import check_window
from jaxgpt.command_line import parse_train
from jaxgpt.config import HOW_TO_TRAIN, OF_THE_RUN, Sampling
from jaxgpt.config_file import to_finetune
from jaxgpt.errors import UserError


def pretrain(words: Sequence[str] | None = None) -> None:
    """Does what train.py is told: by these words, or by its command line."""
    arguments = parse_train("base", __doc__, words, prog=None if words is None else "jaxgpt train")
    config = arguments.settings
    if config.data.rehearse is not None:
        raise UserError(
            f"data.rehearse: {config.data.rehearse} was given; it is for finetuning. Text beside text is a mixture: "
            "--data.corpus a.jsonl:0.9,b/:0.1"
        )
    if config.objective.name != "next_token":
        raise UserError(
            f"objective.name: {config.objective.name} was given; it is about answers, and for finetune.py; "
            "train.py takes next_token"
        )
    if config.run.init_from is None:
        check_window(config)
    elif taken := sorted(name for name in arguments.typed - HOW_TO_TRAIN if name.startswith(OF_THE_RUN)):
        raise UserError(
            f"{taken[0]}: continued training takes model and tokenizer from {config.run.init_from}; leave it out"
        )

    # JAX and what stands on it take seconds to import: --help and a typo should not wait for them.
    import jax

    from jaxgpt.data.mixture import prepare_corpus
    from jaxgpt.data.require import require_known
    from jaxgpt.inference.generate import continue_text, encode_prompt
    from jaxgpt.stages import Stage, begin, run_of, run_stage
    from jaxgpt.training.plan import announce, model_of

    config, origin, settled = begin(config, model_of)
    data = prepare_corpus(config.data, origin and origin.run.tokenizer, config.model.vocab_size)
    announce(data)
    print(f"  {data.vocabulary or f'vocabulary: that of {config.run.init_from}'}")
    run = run_of(config, data, settled)
    if warning := require_known(data.manifest, origin is not None):
        print(f"WARNING: {warning}")
    model, tokenizer = run.sized.model, data.tokenizer
    prompt = encode_prompt(config.run.sample_prompt, tokenizer, model)
    to_line_end = data.manifest.ends_with_line(config.data)

    def sample(params) -> str:
        key, count = jax.random.key(config.run.seed), config.run.sample_tokens
        return "".join(continue_text(params, model, tokenizer, prompt, key, Sampling(), count, to_line_end))

    split = "test" if "test" in data.sources else "valid"
    next_commands = [
        shlex.join(["python", "-m", "jaxgpt", "sample", str(run.path), "--prompt", config.run.sample_prompt]),
        shlex.join(["python", "-m", "jaxgpt", "evaluate", str(run.path), "--split", split]),
        to_finetune(data.manifest.talking_preset, str(run.path), model.context_len),
    ]
    run_stage(Stage(config, data, origin, sample, "a language model", next_commands), run, arguments.dry_run)
