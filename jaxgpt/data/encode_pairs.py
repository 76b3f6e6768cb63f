"""Pairs of answers to packed rows: a prompt stands once in a row, and both answers go on from it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.config import DataConfig
from jaxgpt.data.encode_chat import UnknownWords
from jaxgpt.data.manifest import ChatCounts
from jaxgpt.data.packing import Answered, answered_rows, pack
from jaxgpt.data.require import require_pairs
from jaxgpt.text.conversation import Rendered as Message
from jaxgpt.text.conversation import fit, prompt_of, render_each, render_message
from jaxgpt.text.corpora import Pair, Splits
from jaxgpt.text.corpora.documents import digest_after, fingerprint
from jaxgpt.text.tokenizer import Tokenizer


def encode_pairs(
    folder: Path, name: str, splits: Splits[Pair], config: DataConfig, tokenizer: Tokenizer
) -> dict[str, Any]:
    """Writes the rows of every split into a folder; returns the facts about them.

    Each answer has half a row at most, its prompt included, of which the oldest exchanges go for that. Raises UserError
    when too many words of the training split are unknown to the tokenizer, and when no pair fits.
    """
    counts, digests = {}, {}
    for split, read in splits.documents.items():
        kept, digest, unknown = [], "", UnknownWords()
        cut = dropped = messages_cut = pairs = 0
        for pair in read():
            digest = digest_after(digest, pair)
            prompt = render_each(pair.prompt, tokenizer)
            answers = [
                render_message({"role": "assistant", "content": text}, tokenizer)
                for text in (pair.chosen, pair.rejected)
            ]
            for message in (*prompt, *answers):
                unknown.count(message, tokenizer)
            fitted = _fitted(prompt, answers, config.seq_len // 2, tokenizer)
            pairs += 1
            dropped += not fitted
            cut += bool(fitted) and len(fitted) < len(prompt)
            messages_cut += len(prompt) - len(fitted)
            if fitted:
                both = [([*answer.content_ids, tokenizer.special.end], 1) for answer in answers]
                kept.append(Answered(prompt_of(fitted, tokenizer), both))
        sizes = [pair.size for pair in kept]
        plan = [[kept[item] for item in row] for row in pack(sizes, config.seq_len)]
        np.save(folder / f"{split}.npy", answered_rows(plan, (len(plan), config.seq_len)))
        tokens, supervised = sum(sizes), sum(len(ids) for pair in kept for ids, _ in pair.answers)
        counts[split] = ChatCounts(pairs, len(kept), cut, dropped, messages_cut, tokens, supervised, *unknown.shares)
        digests[split] = digest
    require_pairs(name, counts["train"], config.seq_len)
    return {
        "kind": "pairs",
        "fingerprint": fingerprint(digests),
        "tokenizer": tokenizer.fingerprint,
        "splits": {split: asdict(found) for split, found in counts.items()},
        "notes": splits.notes,
        "example": [],
    }


def _fitted(prompt: list[Message], answers: list[Message], room: int, tokenizer: Tokenizer) -> list[Message]:
    """Returns the latest exchanges of a prompt with which each answer fits into so many tokens; maybe none."""
    left = room + 1 - max(len(answer.opening) + len(answer.content_ids) + 1 for answer in answers)
    left -= len(tokenizer.special.start)
    fitted = fit(prompt, left)
    return fitted if fitted and fitted[-1] is prompt[-1] else []
