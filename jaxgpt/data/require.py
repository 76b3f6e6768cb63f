"""What must hold of a corpus before a model is trained on it, and what to do where it does not."""

import math
from collections.abc import Mapping, Sized

from jaxgpt.config import DataConfig
from jaxgpt.data.manifest import ChatCounts, Manifest
from jaxgpt.errors import UserError
from jaxgpt.text.corpora import Piece, Splits
from jaxgpt.text.tokenizer import Tokenizer

WARN_UNK_SHARE = 0.05  # of held-out words: from here on a loss says little about the text
MAX_UNK_SHARE = 0.30  # beyond it the tokenizer does not fit the text or the conversations


def require_text(name: str, splits: Splits[Piece], config: DataConfig) -> None:
    """Raises what `require_enough` would, as far as it can be known before any word is counted."""
    if "valid" not in splits.documents:
        raise _nothing_to_validate_on(name)
    if config.pack_lines:
        return
    wanted = config.batch_size * config.seq_len
    most_tokens = 0
    for piece in splits.documents["train"]():
        most_tokens += len(piece.text.encode("utf-8", "surrogatepass")) + 1  # a token is a byte at least
        if most_tokens > wanted:
            return
    if (most_windows := math.ceil(most_tokens / config.seq_len)) < config.batch_size:
        raise _too_few_windows(name, most_windows, config.batch_size, at_most=" at most")


def require_documents(tokenizer: Tokenizer, config: DataConfig) -> None:
    """Raises UserError where documents are to be masked and the tokenizer does not say where they end."""
    if config.mask_documents and not config.pack_lines and tokenizer.special.newline == tokenizer.special.eos:
        raise UserError(
            f"data.mask_documents: the {tokenizer.kind} tokenizer ends lines and documents with one token, so that "
            "documents cannot be told apart; use --data.tokenizer bpe, or --data.pack-lines if each line is a document"
        )


def require_enough(name: str, sources: Mapping[str, Sized], batch_size: int) -> None:
    """Raises UserError when there is less than a batch to train on, or nothing to validate on."""
    windows = len(sources["train"])
    if windows < batch_size:
        raise _too_few_windows(name, windows, batch_size)
    if "valid" not in sources or not len(sources["valid"]):
        raise _nothing_to_validate_on(name)


def _too_few_windows(name: str, windows: int, batch_size: int, at_most: str = "") -> UserError:
    smaller = f"--data.batch-size {windows} or less, " if windows else ""
    return UserError(
        f"data.batch_size: {batch_size} was given, but {name} makes only {windows} training windows{at_most}; "
        f"give {smaller}a shorter --data.seq-len, or more text"
    )


def _nothing_to_validate_on(name: str) -> UserError:
    return UserError(f"data.corpus: {name} leaves nothing to validate on; give more text, or a valid file beside train")


def require_known(manifest: Manifest, continued: bool) -> str | None:
    """Returns a warning where the tokenizer does not know much of the held-out text, else None.

    `continued` says that tokenizer and model are those of another run. Raises UserError where so little is known that
    training makes no sense.
    """
    name, share = manifest.name, manifest.splits["valid"].unknown_share
    if share <= WARN_UNK_SHARE:
        return None
    what = "words" if manifest.tokenized is not None else "tokens"  # of words alone it is asked whether they are split
    known = f"{share:.1%} of the {what} of the validation split of {name} are unknown to the tokenizer"
    if share > MAX_UNK_SHARE:
        if continued:
            raise UserError(
                f"data.corpus: {known}, which is that of run.init_from (at most {MAX_UNK_SHARE:.0%} make sense); give "
                "text in its words, or leave --run.init-from out and train from nothing"
            )
        raise UserError(
            f"data.corpus: {known} (at most {MAX_UNK_SHARE:.0%} make sense). A vocabulary of words fits languages that "
            "put blanks between words, and text that repeats them: give more text, a larger --model.vocab-size, or "
            "--data.tokenizer bpe, to which nothing is unknown"
        )
    return f"{known}. To the model they are all <unk>: its perplexity leaves out what it would take to spell them"


def require_replies(name: str, train: ChatCounts, seq_len: int) -> None:
    """Raises UserError where the tokenizer does not know the words of conversations, or none of them fits."""
    _require_known_words(name, train)
    if not train.kept:
        raise _nothing_fits(f"no conversation of {name} has an exchange that fits in {seq_len} tokens")


def require_pairs(name: str, train: ChatCounts, seq_len: int) -> None:
    """Raises UserError where the tokenizer does not know the words of pairs, or none of them fits."""
    _require_known_words(name, train)
    if not train.kept:
        raise _nothing_fits(f"no pair of {name} fits, its prompt with either answer in half of {seq_len} tokens")


def _nothing_fits(what: str) -> UserError:
    return UserError(f"data.seq_len: {what}; use a longer window")


def _require_known_words(name: str, train: ChatCounts) -> None:
    for what, share in (("prompts", train.unk_prompts), ("replies", train.unk_replies)):
        if share > MAX_UNK_SHARE:
            raise UserError(
                f"data.corpus: {share:.0%} of the words in the {what} of {name} are "
                f"unknown to this tokenizer (at most {MAX_UNK_SHARE:.0%} make sense). Pretrain on text like these "
                "conversations, or with a larger --model.vocab-size, and finetune from that run; or choose "
                "conversations in the words of the pretraining text"
            )
