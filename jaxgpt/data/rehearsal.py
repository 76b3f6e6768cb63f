"""Rehearsal: text that goes on being learned beside conversations, so that finetuning does not forget it."""

from dataclasses import dataclass, replace

import numpy as np

from jaxgpt.config import DataConfig
from jaxgpt.data.batch import Batch
from jaxgpt.data.manifest import Manifest
from jaxgpt.data.mixture import shares_of
from jaxgpt.data.prepare import Prepared, find_text_of, prepare_text
from jaxgpt.data.sources import EMPTY, Source, samples_at
from jaxgpt.errors import UserError, shown
from jaxgpt.text.corpora import CHAT, PAIRS, TEXT
from jaxgpt.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Rehearsal:
    """Text, and the share of the rows of training that it has."""

    share: float
    manifest: Manifest
    train: Source
    valid: Source
    window: int
    """Tokens of a window of it, for which the model has positions."""
    seq_len: int
    """Tokens of a row, which holds one window or more."""

    def rows(self, places: np.ndarray) -> Batch:
        """Returns the rows at these places of training: the windows shuffled, and anew after each pass over them.

        Their order is the same whatever run.seed is.
        """
        window, each = self.window, self.seq_len // self.window
        numbers_BW = places[:, None] * each + np.arange(each)
        batch = self.train.gather(samples_at(numbers_BW.ravel(), len(self.train), 0))
        segments, positions = batch.segments, batch.positions
        if segments is None or positions is None:  # windows of running text
            segments, positions = (
                (batch.weights > 0).astype(np.int32),
                np.tile(np.arange(window), (len(batch.tokens), 1)),
            )
        apart = window * (np.arange(len(batch.tokens)) % each)[:, None]  # windows of one row do not see each other

        def row(x: np.ndarray) -> np.ndarray:
            x_BT = x.reshape(len(places), each * window)
            return np.pad(x_BT, ((0, 0), (0, self.seq_len - each * window)))

        return Batch(
            tokens=row(batch.tokens),
            targets=row(batch.targets),
            weights=np.zeros((len(places), self.seq_len), np.float32),
            segments=row(np.where(segments > 0, segments + apart, 0).astype(np.int32)),
            positions=row(positions.astype(np.int32)),
            rehearsed=row(batch.weights),
        )


@dataclass(frozen=True)
class WithRehearsal:
    """Rows of conversations, or of pairs, and rows of text beside them; an epoch has each of the first once."""

    talks: Source
    rehearsal: Rehearsal

    @property
    def text_rows(self) -> int:
        """The rows of text in an epoch."""
        share = self.rehearsal.share
        return max(1, round(len(self.talks) * share / (1 - share)))

    def __len__(self) -> int:
        return len(self.talks) + self.text_rows

    def gather(self, indices: np.ndarray) -> Batch:
        epochs, own = np.divmod(indices, len(self))
        is_text = (indices != EMPTY) & (own >= len(self.talks))
        talks = np.where((indices == EMPTY) | is_text, EMPTY, epochs * len(self.talks) + own)
        places = (epochs * self.text_rows + own - len(self.talks))[is_text]
        return with_text_rows(self.talks.gather(talks), np.flatnonzero(is_text), self.rehearsal.rows(places))


def with_text_rows(batch: Batch, at: np.ndarray, rows: Batch) -> Batch:
    """Returns the batch with rows of text in these places."""
    batch = batch._replace(rehearsed=np.zeros(batch.weights.shape, np.float32))
    for x, new in zip(batch, rows, strict=True):
        if x is not None and new is not None:
            x[at] = new
    return batch


def prepare_rehearsal(config: DataConfig, tokenizer: Tokenizer, context_len: int) -> Rehearsal | None:
    """Returns the text that data.rehearse names, in windows of at most `context_len`; None where it names none.

    Raises UserError for a mixture, and as `find_text_of` and `prepare_text` do.
    """
    if config.rehearse is None:
        return None
    corpus, _, share = config.rehearse.rpartition(":")
    if "," in corpus or shares_of(corpus) is not None:
        raise UserError(f"data.rehearse: {shown(config.rehearse)} was given; it must be one corpus, and its share")
    if corpus in CHAT.names + PAIRS.names:
        raise UserError(
            f"data.rehearse: {corpus} holds conversations; what is learned beside them is text: "
            f"{', '.join(TEXT.names)}, or the path of a file or folder"
        )
    window = min(config.seq_len, context_len)
    alone = replace(config, corpus=corpus, fallback=None, seq_len=window, batch_size=1)  # it need not fill a batch
    try:
        data = prepare_text(find_text_of(alone, corpus, "data.rehearse"), alone, tokenizer)
    except UserError as error:
        raise UserError(str(error).replace("data.corpus:", "data.rehearse:", 1)) from None
    train, valid = data.sources["train"], data.sources["valid"]
    return Rehearsal(float(share), data.manifest, train, valid, window, config.seq_len)


def with_rehearsal(data: Prepared, rehearsal: Rehearsal) -> Prepared:
    """Returns what is trained on, and the text that is rehearsed beside it."""
    sources: dict[str, Source] = {**data.sources, "train": WithRehearsal(data.sources["train"], rehearsal)}
    return replace(data, sources=sources, manifest=replace(data.manifest, rehearsed=rehearsal.manifest))
