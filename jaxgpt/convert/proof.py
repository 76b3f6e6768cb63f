"""The proof of a conversion: the logits of one text by us and by transformers, or as they were when it was exported."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.config import ModelConfig
from jaxgpt.convert.folder import read_json
from jaxgpt.errors import RunError, clipped
from jaxgpt.files import write_text
from jaxgpt.model.gpt import GPT, Params, logits, unembedding
from jaxgpt.text.tokenizer import Tokenizer

TEXT = "The quick brown fox jumps over the lazy dog. Once upon a time, 2 + 2 was 4; in the end it was all the same."
MOST_TOKENS = 48
TOLERANCE = 1e-4  # of the spread of the logits
FILE = "logits.json"
KEPT = 64  # logits of the last token that are kept beside exported weights

_THEIRS = """
import sys, warnings
import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging
logging.set_verbosity_error()
logging.disable_progress_bar()
folder, ids, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
with torch.no_grad():
    np.save(out, model(torch.tensor([[int(id) for id in ids.split(",")]])).logits[0].numpy())
"""

_LLAMA_CPP = """
import sys
import numpy as np
from llama_cpp import Llama
file, ids, out = sys.argv[1:]
ids = [int(id) for id in ids.split(",")]
model = Llama(file, n_ctx=len(ids) + 1, logits_all=True, verbose=False)
model.eval(ids)
np.save(out, model.scores[: len(ids)])
"""


@dataclass(frozen=True)
class Proof:
    """What two programs make of one text."""

    against: str
    difference: float | None
    """The greatest difference of two logits; None where there was nothing to compare with."""
    spread: float
    """The greatest logit less the smallest."""

    def __str__(self) -> str:
        if self.difference is None:
            return f"logits not compared: {self.against}"
        return (
            f"logits as {self.against} has them: greatest difference {self.difference:.2g}, "
            f"{self.difference / self.spread:.1e} of their spread"
        )


def text_ids(tokenizer: Tokenizer, model: ModelConfig) -> list[int]:
    """Returns the ids of the text that both sides read; of a small vocabulary, ids of all over it."""
    most = min(MOST_TOKENS, model.context_len)
    found = [id for id in tokenizer.encode(TEXT) if id < model.vocab_size]
    if len(set(found)) < 8:
        found = [int(id) for id in np.linspace(0, model.vocab_size - 1, most)]
    return found[:most]


def ids_to_prove(folder: Path, tokenizer: Tokenizer, model: ModelConfig) -> list[int]:
    """Returns the ids whose logits the folder keeps, where it does; else those of the text."""
    kept = (_read_kept(folder) or {}).get("ids", [])
    usable = (
        kept and len(kept) <= model.context_len and all(type(id) is int and 0 <= id < model.vocab_size for id in kept)
    )
    return kept if usable else text_ids(tokenizer, model)


def our_logits(params: Params, model: ModelConfig, ids: Sequence[int]) -> np.ndarray:
    """Returns the logits of a text by our network in float32, [T, vocab_size]."""
    plain = replace(model, dtype="float32", attention="xla", scan_layers=False, dropout=0.0)

    @jax.jit
    def forward(params: Params, tokens_BT: jax.Array) -> jax.Array:
        hidden_BTD: Any = GPT(plain).apply({"params": params}, tokens_BT)
        return logits(unembedding(params), hidden_BTD[0], plain.vocab_size)[0, :, : plain.vocab_size]

    return np.asarray(forward(params, jnp.asarray([list(ids)], jnp.int32)))


def their_logits(folder: Path, ids: Sequence[int]) -> np.ndarray | None:
    """Returns the logits that transformers has for a folder, [T, rows]; None where it or torch is not installed.

    In a process of its own, whose memory goes with it. Raises RunError where transformers cannot read the folder.
    """
    if not all(importlib.util.find_spec(name) for name in ("transformers", "torch")):
        return None
    return _of_a_process(_THEIRS, folder, ids, "transformers")


def _of_a_process(program: str, path: Path, ids: Sequence[int], who: str) -> np.ndarray:
    """Returns the logits that a program writes for a folder or file."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "logits.npy"
        command = [sys.executable, "-c", program, str(path), ",".join(map(str, ids)), str(out)]
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise RunError(f"{path}: {who} cannot read it ({clipped(last)})")
        return np.load(out)


def prove(folder: Path, ours_TV: np.ndarray, ids: Sequence[int], tolerance: float = TOLERANCE) -> Proof:
    """Returns how far our logits are from those of the folder; RunError where that is beyond the tolerance."""
    spread = float(ours_TV.max() - ours_TV.min())
    theirs_TV, against = their_logits(folder, ids), "transformers"
    if theirs_TV is None:
        kept = _read_kept(folder)
        if kept is None or kept["ids"] != list(ids):
            return Proof("that needs transformers and torch (pip install transformers torch)", None, spread)
        against = f"{folder / FILE}"
        at = list(map(int, kept["logits"]))
        difference = float(np.abs(ours_TV[-1, at] - np.array(list(kept["logits"].values()))).max())
    else:
        difference = float(np.abs(ours_TV - theirs_TV[:, : ours_TV.shape[1]]).max())
    return _held(folder, against, difference, spread, tolerance)


def prove_gguf(file: Path, ours_TV: np.ndarray, ids: Sequence[int], tolerance: float) -> Proof:
    """Returns how far our logits are from those that llama.cpp has for a file; as `prove` otherwise."""
    spread = float(ours_TV.max() - ours_TV.min())
    if importlib.util.find_spec("llama_cpp") is None:
        return Proof("that needs llama.cpp (pip install llama-cpp-python); the file was read again", None, spread)
    theirs_TV = _of_a_process(_LLAMA_CPP, file, ids, "llama.cpp")
    difference = float(np.abs(ours_TV - theirs_TV[: len(ids), : ours_TV.shape[1]]).max())
    return _held(file, "llama.cpp", difference, spread, tolerance)


def _held(path: Path, against: str, difference: float, spread: float, tolerance: float) -> Proof:
    """Returns the proof; raises RunError where the difference is beyond the tolerance, or no number."""
    if not difference <= tolerance * spread:
        raise RunError(
            f"{path}: its logits differ by {difference:.3g} from those that {against} has, of a spread of "
            f"{spread:.3g}; nothing was kept. Please report it, with the config.json"
        )
    return Proof(against, difference, spread)


def keep_logits(folder: Path, ours_TV: np.ndarray, ids: Sequence[int]) -> None:
    """Writes some logits of the text beside exported weights, so that whoever reads them can see they are the same."""
    at = np.unique(np.linspace(0, ours_TV.shape[1] - 1, KEPT).astype(int))
    kept = {str(id): float(ours_TV[-1, id]) for id in at}
    about = "logits of the token after these ids, in float32"
    write_text(folder / FILE, json.dumps({"about": about, "ids": list(ids), "logits": kept}, indent=1) + "\n")


def _read_kept(folder: Path) -> dict[str, Any] | None:
    kept = read_json(folder / FILE) if (folder / FILE).is_file() else None
    right = isinstance(kept, dict) and isinstance(kept.get("ids"), list) and isinstance(kept.get("logits"), dict)
    return kept if right else None
