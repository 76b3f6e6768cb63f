"""Verbs that let a model write: sample, chat, explain, pairs, serve."""

import contextlib
import os
import shlex

from jaxgpt.allowed import validate
from jaxgpt.buckets import path_on_disk
from jaxgpt.commands.trained import load, origin_of
from jaxgpt.config import MOST, Config, ObjectiveConfig, RunConfig
from jaxgpt.config_file import to_finetune
from jaxgpt.errors import UserError, shown
from jaxgpt.files import folder_made_whole
from jaxgpt.verbs import Chat, Explain, Pairs, Sample, Serve

MOST_SLOTS = 1024


def _check_numbers(verb: Sample | Chat) -> None:
    if verb.max_tokens < 1:
        raise UserError(f"max_tokens: {shown(verb.max_tokens)} was given; it must be at least 1")
    if not 0 <= verb.seed < MOST:
        raise UserError(f"seed: {shown(verb.seed)} was given; it must be at least 0 and below 2**32")


def sample(verb: Sample) -> None:
    """Prints the prompt and what the model makes of it."""
    import jax

    from jaxgpt.inference.generate import continue_text, encode_prompt
    from jaxgpt.terminal import print_stream
    from jaxgpt.text.tokenizer import tell_unknown

    _check_numbers(verb)
    trained, key = load(verb.run), jax.random.key(verb.seed)
    model, tokenizer = trained.config.model, trained.run.tokenizer
    prompt = encode_prompt(verb.prompt, tokenizer, model)
    tell_unknown(tokenizer, verb.prompt)
    to_line_end = verb.stop_at_line_end
    if to_line_end is None:
        to_line_end = trained.run.data.ends_with_line(trained.config.data)
    params, count = trained.params, verb.max_tokens
    print_stream(continue_text(params, model, tokenizer, prompt, key, verb.sampling, count, to_line_end))


def chat(verb: Chat) -> None:
    """Answers --prompt, or talks until the user leaves; whole oldest exchanges are dropped when they no longer fit."""
    import jax

    from jaxgpt.inference.chat import fit_history, reply
    from jaxgpt.terminal import Conversation, converse, print_stream
    from jaxgpt.text.conversation import render_message
    from jaxgpt.text.tokenizer import tell_unknown

    _check_numbers(verb)
    trained, key = load(verb.run, verb.quantize, writes=True), jax.random.key(verb.seed)
    if not trained.run.data.is_chat:
        learn = to_finetune(trained.run.data.talking_preset, verb.run, trained.config.model.context_len)
        raise UserError(
            f"{verb.run}: this run is a language model that has not learned to talk; finetune it first "
            f"({learn}), or let it write: "
            f"{shlex.join(['python', '-m', 'jaxgpt', 'sample', verb.run])}"
        )
    if verb.prompt is not None:
        model, tokenizer = trained.config.model, trained.run.tokenizer
        asked = render_message({"role": "user", "content": verb.prompt}, tokenizer)
        messages = fit_history([asked], model.context_len)
        tell_unknown(tokenizer, verb.prompt)
        print_stream(reply(trained.params, model, tokenizer, messages, key, verb.sampling, verb.max_tokens))
        return
    print(f"{verb.run}, step {trained.step}, trained on {trained.run.data.full_name}. /help for help, Ctrl-D leaves.")
    converse(Conversation(trained, verb.sampling, verb.max_tokens, key))


def explain(verb: Explain) -> None:
    """Prints the text's walk through the model."""
    from jaxgpt.report import explain
    from jaxgpt.text.tokenizer import tell_unknown

    trained = load(verb.run)
    text = " ".join(verb.text)
    tell_unknown(trained.run.tokenizer, text)
    for line in explain.explain(trained, text):
        print(line)


def pairs(verb: Pairs) -> None:
    """Writes the pairs that a run makes of questions, and says how many and what they are for."""
    from jaxgpt.inference.pairs import write_own_pairs
    from jaxgpt.text.corpora import open_chat

    drawn = ObjectiveConfig(group_size=verb.group_size, temperature=verb.temperature, answer_tokens=verb.answer_tokens)
    try:
        validate(Config(objective=drawn, run=RunConfig(seed=verb.seed)))
    except UserError as error:  # fields of a config are this command's options
        raise UserError(str(error).partition(".")[2]) from None
    out = path_on_disk(verb.out, "out")
    if out.exists():
        raise UserError(f"out: {verb.out} is there already; name a folder that is not")
    origin = origin_of(verb.run)
    if not origin.run.data.is_chat:
        raise UserError(f"{verb.run}: this run is a language model, which answers no questions; name one that talks")
    corpus = open_chat(verb.corpus, None)
    with folder_made_whole(out) as folder:
        counts = write_own_pairs(folder, corpus, origin, drawn, verb.seed)
    for split, (count, asked) in counts.items():
        print(f"  {split}: {count:,} pairs of {asked:,} questions")
    learn = to_finetune("dpo", verb.run, origin.run.sized.model.context_len, "--data.corpus", verb.out)
    print(f"{verb.out}: pairs. Next:\n  {learn}")


def serve(verb: Serve) -> None:
    """Serves until Ctrl-C or SIGTERM."""
    try:
        from jaxgpt.serve import server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jaxgpt"):
            raise
        raise UserError(f'serve: {error.name} is not installed; pip install "jaxgpt[serve]"') from None

    if not 1 <= verb.slots <= MOST_SLOTS:
        raise UserError(f"slots: {shown(verb.slots)} was given; it must be between 1 and {MOST_SLOTS}")
    api_key = verb.api_key or os.environ.get("JAXGPT_API_KEY") or None
    access = server.make_access(verb.host, api_key, verb.public_name, verb.allow_origin)
    with contextlib.closing(server.listen(verb.host, verb.port)) as listener:
        server.serve(load(verb.run, verb.quantize, writes=True), listener, access, verb.slots)
