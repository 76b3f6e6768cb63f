"""Finetuning: a pretrained run becomes a model that talks.

Examples:
  python finetune.py --config configs/oasst.py
  jaxgpt finetune oasst --run.init-from runs/base, from any folder
"""

import shlex
from collections.abc import Sequence

from jaxgpt.command_line import parse_train
from jaxgpt.config import OF_THE_RUN, Config, ModelConfig, Sampling, differences
from jaxgpt.errors import UserError


def finetune(words: Sequence[str] | None = None) -> None:
    """Does what finetune.py is told: by these words, or by its command line."""
    arguments = parse_train(
        "oasst", __doc__, words, prog=None if words is None else "jaxgpt finetune", is_model_given=True
    )
    config = arguments.settings
    if config.run.init_from is None:
        raise UserError(
            f"run.init_from: no run was given, and {arguments.config} names none, as presets for train.py do; "
            "name the pretrained one, for example --run.init-from runs/base"
        )
    if config.model != ModelConfig():
        raise UserError(f"model: finetuning takes the model from {config.run.init_from}; leave these settings out")
    if taken := [name for name, _, _ in differences(Config(), config) if name.startswith(OF_THE_RUN)]:
        raise UserError(f"{taken[0]}: finetuning takes the tokenizer from {config.run.init_from}; leave it out")

    # JAX and what stands on it take seconds to import: --help and a typo should not wait for them.
    import jax

    from jaxgpt.data.prepare import prepare_chat
    from jaxgpt.data.rehearsal import prepare_rehearsal, with_rehearsal
    from jaxgpt.inference.chat import fit_history, reply
    from jaxgpt.inference.pairs import prepare_preferences
    from jaxgpt.inference.rewards import reward_of
    from jaxgpt.inference.rollouts import prepare_rollouts
    from jaxgpt.stages import Stage, begin, run_of, run_stage
    from jaxgpt.text.conversation import render_message, show_mask
    from jaxgpt.text.corpora import open_chat
    from jaxgpt.training.objectives import OBJECTIVES
    from jaxgpt.training.plan import announce, announce_rehearsal

    config, origin, settled = begin(config, lambda origin, _: origin.talking_model)
    assert origin is not None
    tokenizer, objective = origin.run.tokenizer, config.objective.name
    if objective != "next_token" and not origin.run.data.is_chat:
        raise UserError(
            f"run.init_from: {config.run.init_from} is a language model that has not learned to talk, and "
            f"objective.name {objective} is about answers; finetune it on conversations first"
        )
    reward = reward_of(config.objective)
    if objective == "dpo":
        data = prepare_preferences(config, origin)
    else:
        corpus = open_chat(config.data.corpus, config.data.fallback, config.data.oasst_all_paths)
        data = prepare_chat(corpus, config.data, tokenizer)
        announce(data)
    rehearsal = prepare_rehearsal(config.data, tokenizer, config.model.context_len)
    if rehearsal is not None:
        announce_rehearsal(rehearsal, tokenizer)
        data = with_rehearsal(data, rehearsal)
    if objective == "next_token":
        print("an example, with what the model must learn to say in [brackets]:")
        print(show_mask(data.example, tokenizer))
    run = run_of(config, data, settled)
    rollouts = prepare_rollouts(run.sized, tokenizer, reward, rehearsal) if objective == "grpo" else None
    model = run.sized.model
    asked = render_message({"role": "user", "content": config.run.sample_prompt}, tokenizer)
    prompt = fit_history([asked], model.context_len)

    def sample(params) -> str:
        key = jax.random.key(config.run.seed)
        pieces = reply(params, model, tokenizer, prompt, key, Sampling(), config.run.sample_tokens)
        return f"you> {config.run.sample_prompt}\nmodel> {''.join(pieces)}"

    next_commands = [
        shlex.join(["python", "-m", "jaxgpt", "chat", str(run.path)]),
        shlex.join(["python", "-m", "jaxgpt", "evaluate", str(run.path), "--split", "valid"]),
    ]
    made = "a model that talks"
    stage = Stage(config, data, origin, sample, made, next_commands, OBJECTIVES[objective], rollouts, rehearsal)
    run_stage(stage, run, arguments.dry_run)
