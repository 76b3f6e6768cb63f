"""Conversations to packed rows: each message rendered once, cut to the window at turns, counted."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.config import DataConfig
from jaxgpt.data.manifest import ChatCounts
from jaxgpt.data.packing import packed_rows
from jaxgpt.data.require import require_replies
from jaxgpt.text.conversation import Message, Rendered, fit_answered, joined, render_each
from jaxgpt.text.corpora import Conversation, Splits
from jaxgpt.text.corpora.documents import digest_after, fingerprint
from jaxgpt.text.tokenizer import Tokenizer


def encode_chat(
    folder: Path, name: str, splits: Splits[Conversation], config: DataConfig, tokenizer: Tokenizer
) -> dict[str, Any]:
    """Writes the rows of every split into a folder; returns the facts about them.

    Raises UserError when too many words of the training split are unknown to the tokenizer, and when no conversation
    fits.
    """
    example: list[Message] = []
    counts, digests = {}, {}
    for split, read in splits.documents.items():
        kept, digest = [], ""
        cut = dropped = messages_cut = conversations = 0
        unknown = {"prompts": np.zeros(2, int), "replies": np.zeros(2, int)}  # (unknown words, words)
        for conversation in read():
            digest = digest_after(digest, conversation)
            rendered = render_each(conversation, tokenizer)
            fitted = fit_answered(rendered, config.seq_len + 1 - len(tokenizer.special.start))
            conversations += 1
            cut += bool(fitted) and len(fitted) < len(rendered)
            dropped += not fitted
            messages_cut += len(rendered) - len(fitted)
            for message in rendered:
                unknown["replies" if message.role == "assistant" else "prompts"] += _words(message, tokenizer)
            if fitted:
                kept.append(joined(fitted, tokenizer))
                example = example or [message.message for message in fitted]
        np.save(folder / f"{split}.npy", packed_rows(kept, config.seq_len))
        tokens, supervised = sum(len(ids) for ids, _ in kept), sum(sum(mask[1:]) for _, mask in kept)
        shares = {role: float(found / max(1, words)) for role, (found, words) in unknown.items()}
        counts[split] = ChatCounts(
            conversations,
            len(kept),
            cut,
            dropped,
            messages_cut,
            tokens,
            supervised,
            unk_prompts=shares["prompts"],
            unk_replies=shares["replies"],
        )
        digests[split] = digest
    require_replies(name, counts["train"], config.seq_len)
    return {
        "kind": "chat",
        "fingerprint": fingerprint(digests),
        "tokenizer": tokenizer.fingerprint,
        "splits": {split: asdict(found) for split, found in counts.items()},
        "notes": splits.notes,
        "example": example,
    }


def _words(message: Rendered, tokenizer: Tokenizer) -> tuple[int, int]:
    """Returns (unknown words, words) of what is said."""
    special = tokenizer.special
    unknown = 0 if special.unk is None else message.content_ids.count(special.unk)
    breaks = 0 if special.newline is None else message.content_ids.count(special.newline)
    return unknown, len(message.content_ids) - breaks
