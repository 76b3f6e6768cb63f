"""A run made of parameters that were not trained here: its folder, and its checkpoint of step 0."""

import json

import jax.numpy as jnp

from jaxgpt.buckets import make_folder
from jaxgpt.config_json import to_json
from jaxgpt.files import write_text
from jaxgpt.model.gpt import Params
from jaxgpt.run.checkpoint import open_checkpoints, save
from jaxgpt.run.folder import Run
from jaxgpt.run.starts import record_start
from jaxgpt.run.state import TrainState
from jaxgpt.text.vocabulary import save_tokenizer


def write_run(run: Run, params: Params) -> None:
    """Writes the run's folder: documents, and the parameters (with lora.rank its adapters) as step 0."""
    make_folder(run.checkpoints)
    write_text(run.path / "config.json", to_json(run.config))
    save_tokenizer(run.tokenizer, run.path / "tokenizer.json")
    write_text(run.path / "data.json", json.dumps(run.data.to_dict(), indent=2, ensure_ascii=False) + "\n")
    for name in ("metrics.jsonl", "samples.jsonl"):
        write_text(run.path / name, "")
    with open_checkpoints(run.checkpoints) as manager:
        save(manager, TrainState(jnp.zeros((), jnp.int32), params, ()), run.documents)
    record_start(run.path, 0, [], {})
