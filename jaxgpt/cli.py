"""python -m jaxgpt VERB: what one does with a run. Each verb is a few lines over the rooms below."""

import contextlib
import difflib
import os
import shlex
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import tyro

from jaxgpt.allowed import check_window, validate
from jaxgpt.buckets import is_there, path_of, path_on_disk
from jaxgpt.command_line import config_file, errors_in_words, load_config_file, parse, to_finetune
from jaxgpt.config import MOST, Config, ObjectiveConfig, RunConfig
from jaxgpt.depth import of_depth
from jaxgpt.errors import RunError, UserError, shown
from jaxgpt.files import folder_made_whole
from jaxgpt.verbs import (
    Chat,
    Check,
    Compare,
    Evaluate,
    Explain,
    Export,
    Import,
    Pairs,
    Plan,
    Quantize,
    Report,
    Sample,
    Serve,
    Tokenize,
    Verb,
)

MOST_SLOTS = 1024
MOST_TOKENS = 1e18
DESCRIPTION = "Use a trained run. To make one: jaxgpt train PRESET, jaxgpt finetune PRESET (each has --help)"


def main(arguments: list[str] | None = None) -> None:
    """Runs the verb that the command line names."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(f"jaxgpt {metadata.version('jaxgpt')}")
        return
    with errors_in_words():
        if arguments[:1] in (["train"], ["finetune"]):
            _train(arguments[0], arguments[1:])
            return
        names = {kind.__name__.lower(): kind for kind in get_args(Verb)}
        there_are = f"there are: train, finetune, {', '.join(names)}"
        if not arguments:
            raise UserError(f"no command was given; {there_are}; each has --help")
        if not arguments[0].startswith("-") and arguments[0] not in names:
            near = difflib.get_close_matches(arguments[0], [*names, "train", "finetune"], n=1)
            guess = f"perhaps you meant {near[0]}" if near else there_are
            raise UserError(f"{shown(arguments[0])} is no command; {guess}")
        how: dict[str, Any] = {"config": (tyro.conf.FlagCreatePairsOff,)}
        if arguments[0] == "plan":  # a preset's values are the defaults
            file = config_file(arguments)
            preset = of_depth(load_config_file(file) if file else Config(), arguments)
            how["default"] = Plan(preset, on=tyro.MISSING, config=file)
        if arguments[0] in names:  # by itself: options of other verbs are none of its
            kind, name = names[arguments[0]], f"jaxgpt {arguments[0]}"
            verb = parse(kind, args=arguments[1:], prog=name, **how)
        else:
            verb = parse(Verb, args=arguments, prog="jaxgpt", description=DESCRIPTION, **how)
        verbs: dict[type, Callable[[Any], None]] = {
            Sample: sample,
            Chat: chat,
            Evaluate: evaluate,
            Pairs: pairs,
            Check: check,
            Report: report,
            Compare: compare,
            Explain: explain,
            Tokenize: tokenize,
            Plan: plan,
            Serve: serve,
            Import: import_weights,
            Export: export_weights,
        }
        verbs[type(verb)](verb)


def _train(stage: str, words: list[str]) -> None:
    """Runs train.py or finetune.py from any folder; the first word may be the preset's name or file."""
    from jaxgpt.finetuning import finetune
    from jaxgpt.pretraining import pretrain

    if words and not words[0].startswith("-"):
        words = ["--config", *words]
    (pretrain if stage == "train" else finetune)(words)


def _load(path: str, quantize: Quantize = None, writes: bool = False):
    """Returns the trained run, JAX set up as its training had it; `writes` says that texts are to be generated."""
    import jax

    from jaxgpt.devices.setup import start_jax
    from jaxgpt.run.folder import load_run
    from jaxgpt.run.load import load_trained

    start_jax(load_run(path).config.data.cache_dir)
    if quantize and writes and jax.default_backend() == "cpu":
        raise UserError(
            f"quantize: {quantize} was given; on a CPU it writes more slowly than float32, so it is for a GPU or TPU; "
            "leave it out"
        )
    trained = load_trained(path, int8=quantize == "int8")
    if quantize:
        size = sum(x.nbytes for x in jax.tree.leaves(trained.params))
        print(f"{path}: weights in {quantize}, {size / 1e6:,.2f} MB", flush=True)
    return trained


def _origin(path: str):
    """Returns the run's best checkpoint, not read yet, JAX set up as its training had it."""
    from jaxgpt.devices.setup import start_jax
    from jaxgpt.run.folder import load_run
    from jaxgpt.run.load import find_origin

    start_jax(load_run(path).config.data.cache_dir)
    return find_origin(path)


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
    trained, key = _load(verb.run), jax.random.key(verb.seed)
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
    trained, key = _load(verb.run, verb.quantize, writes=True), jax.random.key(verb.seed)
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


def evaluate(verb: Evaluate) -> None:
    """Prints what a split costs the model, named exactly."""
    if verb.tasks is not None:
        _evaluate_tasks(verb, verb.tasks)
        return
    from jaxgpt.inference.evaluate import evaluate_chat, evaluate_file, evaluate_text

    if verb.text is not None and verb.split is not None:
        raise UserError(f"split: {verb.split} was given; --text scores a whole file, so leave out one of the two")
    trained, split = _load(verb.run, verb.quantize), verb.split or "valid"
    if verb.text is not None:
        lines = evaluate_file(trained, Path(verb.text).expanduser(), verb.stride)
    elif trained.run.data.is_chat:
        if verb.stride is not None:
            raise UserError("stride: conversations are scored whole; leave it out")
        lines = evaluate_chat(trained, split)
    else:
        lines = evaluate_text(trained, split, verb.stride)
    for line in lines:
        print(line)
        sys.stdout.flush()


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
    origin = _origin(verb.run)
    if not origin.run.data.is_chat:
        raise UserError(f"{verb.run}: this run is a language model, which answers no questions; name one that talks")
    corpus = open_chat(verb.corpus, None)
    with folder_made_whole(out) as folder:
        counts = write_own_pairs(folder, corpus, origin, drawn, verb.seed)
    for split, (count, asked) in counts.items():
        print(f"  {split}: {count:,} pairs of {asked:,} questions")
    learn = to_finetune("dpo", verb.run, origin.run.sized.model.context_len, "--data.corpus", verb.out)
    print(f"{verb.out}: pairs. Next:\n  {learn}")


def _evaluate_tasks(verb: Evaluate, tasks: str) -> None:
    """Prints what tasks come to, our own or those of lm-evaluation-harness, and keeps it in the run."""
    if (verb.text, verb.split, verb.stride, verb.quantize) != (None,) * 4:
        raise UserError(
            "tasks: they have texts and windows of their own, and run on the weights as they are; leave out --text, "
            "--split, --stride and --quantize"
        )
    names = [name for name in map(str.strip, tasks.split(",")) if name]
    elsewhere = [name for name in names if not name.startswith("tinyworld-")]
    evaluate_tasks = _harness(elsewhere[0]) if elsewhere else None
    from jaxgpt.inference.world_tasks import TASKS
    from jaxgpt.run.evaluations import add_evaluations

    if wrong := [name for name in names if name not in elsewhere and name not in TASKS]:
        raise UserError(f"tasks: {shown(wrong[0])} is not there; those that come along are {', '.join(TASKS)}")
    trained = _load(verb.run)
    print(f"{trained.run.path}, step {trained.step}", flush=True)
    evaluations = [TASKS[name](trained) for name in names if name in TASKS]
    if evaluate_tasks is not None:
        evaluations += evaluate_tasks(trained, elsewhere)
    add_evaluations(trained.run.path, evaluations)
    for evaluation in evaluations:
        print("\n".join(evaluation.lines()))


def _harness(task: str) -> Callable[..., Any]:
    """Returns what runs tasks of lm-evaluation-harness; raises UserError where that is not installed."""
    try:
        from jaxgpt.inference.harness import evaluate_tasks
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jaxgpt"):
            raise
        raise UserError(
            f'tasks: {error.name} is not installed, which {task} needs; pip install "jaxgpt[eval]"'
        ) from None
    return evaluate_tasks


def check(verb: Check) -> None:
    """Prints what was verified; raises RunError when anything is damaged."""
    from jaxgpt.run.verify import verify_run

    damaged = 0
    for name, wrong in verify_run(path_of(verb.run), verb.source):
        print(f"{'WRONG' if wrong else 'ok':6} {name}{f': {wrong}' if wrong else ''}", flush=True)
        damaged += wrong is not None
    if damaged:
        raise RunError(
            f"{verb.run}: {damaged} not as it was; of checkpoints, training and sampling pass over damaged ones"
        )
    print(f"{verb.run}: everything is as it was saved")


def report(verb: Report) -> None:
    """Writes the run's page and says where it is."""
    from jaxgpt.devices.setup import start_jax
    from jaxgpt.report.build import write_report, written
    from jaxgpt.run.folder import read_run

    start_jax(read_run(verb.run).config.data.cache_dir)
    print(f"report: {written(write_report(verb.run))}")


def compare(verb: Compare) -> None:
    """Prints the runs' main figures and writes a page with the rest."""
    from jaxgpt.report.build import written
    from jaxgpt.report.compare import write_comparison

    file, lines = write_comparison(verb.runs)
    for line in lines:
        print(line)
    print(f"comparison: {written(file)}")


def explain(verb: Explain) -> None:
    """Prints the text's walk through the model."""
    from jaxgpt.report import explain
    from jaxgpt.text.tokenizer import tell_unknown

    trained = _load(verb.run)
    text = " ".join(verb.text)
    tell_unknown(trained.run.tokenizer, text)
    for line in explain.explain(trained, text):
        print(line)


def tokenize(verb: Tokenize) -> None:
    """Prints the tokens of a text, a border after each, and what they come to."""
    from jaxgpt.text.tokenizer import tell_unknown
    from jaxgpt.text.vocabulary import find_tokenizer

    text = sys.stdin.read() if verb.text == "-" else verb.text
    path = path_of(verb.by).expanduser()
    if not is_there(path):
        raise UserError(f"with: {verb.by!r} is no path that exists; give a run, or a tokenizer.json")
    tokenizer = find_tokenizer(path)
    ids = tokenizer.encode(text)
    if verb.ids:
        print(*ids)
        return
    print("│".join(map(tokenizer.token_text, ids)))
    size = len(text.encode("utf-8", "surrogatepass"))
    each = f", {size / len(ids):.2f} bytes each" if ids else ""
    print(f"{len(ids):,} tokens{each} ({size:,} bytes; {tokenizer.kind}, vocabulary of {tokenizer.vocab_size:,})")
    tell_unknown(tokenizer, text)


def import_weights(verb: Import) -> None:
    """Makes a run of a folder, says how it was proved, and what can be done with it."""
    folder = Path(verb.folder).expanduser()
    name = folder.absolute().name if verb.name is None else verb.name
    validate(Config(run=RunConfig(name=name, folder=verb.runs)))

    from jaxgpt.convert.importing import import_folder
    from jaxgpt.devices.setup import start_jax

    start_jax(Config().data.cache_dir)
    is_peft = (folder / "adapter_config.json").is_file()
    if is_peft != (verb.base is not None):
        told = "adapters; name the run that they were trained beside" if is_peft else "no adapters; leave it out"
        raise UserError(f"base: {shown(verb.base)} was given, and {verb.folder} has {told}")
    if verb.base is not None:
        if verb.context_len is not None:
            raise UserError(f"context_len: {verb.context_len} was given; adapters have the context of {verb.base}")
        from jaxgpt.convert.peft import import_adapters

        run = import_adapters(folder, verb.base, path_on_disk(verb.runs, "run.folder") / name)
        lora = run.config.lora
        print(f"{run.path}: adapters of rank {lora.rank}, alpha {lora.alpha:g}, beside {verb.base}, as a run at step 0")
        print("  every tensor has its place in that model; no logits were compared")
        return
    made = import_folder(folder, path_on_disk(verb.runs, "run.folder") / name, verb.context_len)
    for note in made.notes:
        print(f"  {note}")
    print(f"  {made.proof}")
    path, talks = str(made.run.path), made.run.data.is_chat
    print(f"{path}: a run at step 0. Next:")
    use = ["chat", path] if talks else ["sample", path, "--prompt", "The"]
    print(f"  {shlex.join(['python', '-m', 'jaxgpt', *use])}")
    print(f"  {to_finetune('oasst', path, made.run.config.model.context_len)}")


def export_weights(verb: Export) -> None:
    """Writes a run's folder for other programs, and says how it was proved."""
    from jaxgpt.convert.exporting import export_gguf, export_run
    from jaxgpt.devices.setup import start_jax
    from jaxgpt.run.folder import load_run

    start_jax(load_run(verb.run).config.data.cache_dir)
    out = path_on_disk(verb.out, "out")
    if verb.adapters:
        if verb.dtype is not None:
            raise UserError(f"dtype: {verb.dtype} was given; adapters are written in float32, so leave it out")
        from jaxgpt.convert.peft import export_adapters

        family, rank = export_adapters(verb.run, out)
        print(f"{verb.out}: adapters of rank {rank} for PEFT, of a {family.name}")
        return
    made = (export_gguf if out.suffix == ".gguf" else export_run)(verb.run, out, verb.dtype)
    for note in made.notes:
        print(f"  {note}")
    print(f"  {made.proof}")
    print(f"{verb.out}: a {made.family} of {made.parameters / 1e6:,.1f}M parameters in {made.dtype}")


def plan(verb: Plan) -> None:
    """Prints what a training would be on other chips."""
    from jaxgpt.devices.chips import compile_without_devices
    from jaxgpt.training.estimate import continued, describe, estimate

    config = validate(verb.settings)
    if config.objective.name != "next_token":
        raise UserError(f"objective.name: {config.objective.name} was given; only a next_token training can be planned")
    if verb.tokens is not None and not 1 <= verb.tokens < MOST_TOKENS:
        raise UserError(f"tokens: {shown(verb.tokens)} was given; it must be at least 1 and below {MOST_TOKENS:.0e}")
    compile_without_devices()
    config = continued(config)
    check_window(config)
    for line in describe(estimate(config, verb.on), verb.on, verb.tokens):
        print(line)


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
        server.serve(_load(verb.run, verb.quantize, writes=True), listener, access, verb.slots)
