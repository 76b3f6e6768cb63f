"""The reference of preferences: how likely each answer is to the run that training starts from; computed once, kept."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgpt.config import Config
from jaxgpt.data.kept import key_of, make_kept
from jaxgpt.data.prepare import Prepared
from jaxgpt.data.sources import EMPTY, Packed, Pairs, in_order
from jaxgpt.devices.mesh import inference_mesh
from jaxgpt.run.load import Origin, abstract_on, checkpoint_digest, restore_origin
from jaxgpt.training.evaluate import rows_at_once
from jaxgpt.training.objectives import log_probs
from jaxgpt.training.progress import evaluation_bar


def with_reference(data: Prepared, origin: Origin, config: Config) -> Mapping[str, Pairs]:
    """Returns the pairs of every split with the log-probabilities of their targets in the origin's model.

    `config` has the model in its true size. Each process computes them by itself, where no other has kept them yet.
    """
    model, packed = (
        config.model,
        {split: source for split, source in data.sources.items() if isinstance(source, Packed)},
    )
    made_of = data.manifest.fingerprint, data.tokenizer.fingerprint, config.data.seq_len, model.dtype
    name = key_of("reference", checkpoint_digest(origin), *made_of)

    def make(folder: Path) -> tuple[str, dict[str, Any]]:
        params = restore_origin(origin, abstract_on(inference_mesh(config.mesh), config), alone=True)
        plain = replace(config, model=replace(model, attention="xla", scan_layers=False))
        compute = jax.jit(lambda params, batch: log_probs(params, batch, plain))
        for split, source in packed.items():
            rows = list(in_order(source, rows_at_once(config)))
            with evaluation_bar(f"reference, {split}", len(rows)) as advance:
                found = []
                for indices in rows:
                    advance()
                    found.append(np.asarray(compute(params, source.gather(indices)))[indices != EMPTY])
            np.save(folder / f"{split}.npy", np.concatenate(found))
        return name, {}

    kept = make_kept(config.data.cache_dir, name, make)
    return {
        split: Pairs(source, np.load(kept.folder / f"{split}.npy", mmap_mode="r", allow_pickle=False))
        for split, source in packed.items()
    }
