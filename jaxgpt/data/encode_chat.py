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
        unknown = UnknownWords()
        for conversation in read():
            digest = digest_after(digest, conversation)
            rendered = render_each(conversation, tokenizer)
            fitted = fit_answered(rendered, config.seq_len + 1 - len(tokenizer.special.start))
            conversations += 1
            cut += bool(fitted) and len(fitted) < len(rendered)
            dropped += not fitted
            messages_cut += len(rendered) - len(fitted)
            for message in rendered:
                unknown.count(message, tokenizer)
            if fitted:
                kept.append(joined(fitted, tokenizer))
                example = example or [message.message for message in fitted]
        np.save(folder / f"{split}.npy", packed_rows(kept, config.seq_len))
        tokens, supervised = sum(len(ids) for ids, _ in kept), sum(sum(mask[1:]) for _, mask in kept)
        counts[split] = ChatCounts(
            conversations,
            len(kept),
            cut,
            dropped,
            messages_cut,
            tokens,
            supervised,
            *unknown.shares,
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


class UnknownWords:
    """Counts the words of messages, and those that a tokenizer does not know."""

    def __init__(self) -> None:
        self.of_prompts, self.of_replies = np.zeros(2, int), np.zeros(2, int)  # (unknown words, words)

    def count(self, message: Rendered, tokenizer: Tokenizer) -> None:
        """Adds a message."""
        special, counts = tokenizer.special, self.of_replies if message.role == "assistant" else self.of_prompts
        unknown = 0 if special.unk is None else message.content_ids.count(special.unk)
        breaks = 0 if special.newline is None else message.content_ids.count(special.newline)
        counts += unknown, len(message.content_ids) - breaks

    @property
    def shares(self) -> tuple[float, float]:
        """The unknown share of the words of prompts, and of replies."""
        prompts, replies = (float(unknown / max(1, words)) for unknown, words in (self.of_prompts, self.of_replies))
        return prompts, replies
