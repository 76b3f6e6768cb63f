"""Verbs between this program and others: tokenize, import, export."""

import shlex
import sys
from pathlib import Path

from jaxgpt.allowed import validate
from jaxgpt.buckets import is_there, path_of, path_on_disk
from jaxgpt.config import Config, RunConfig
from jaxgpt.config_file import to_finetune
from jaxgpt.errors import UserError, shown
from jaxgpt.verbs import Export, Import, Tokenize


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
