"""What a model has become, as sections of a page: what it finds hard, its tokens, its attention, its positions."""

from itertools import pairwise

import numpy as np

from jaxgpt.data.reopen import token_counts
from jaxgpt.errors import UserError
from jaxgpt.inference import introspect
from jaxgpt.report.attention import attention
from jaxgpt.report.charts import Line, bar_chart, heat_map, line_chart
from jaxgpt.report.markup import escape
from jaxgpt.report.page import Section, figure, note
from jaxgpt.report.run_data import HeldOut, Record, held_out, said, text_batch
from jaxgpt.report.token_map import token_map
from jaxgpt.run.folder import Run
from jaxgpt.run.load import Trained
from jaxgpt.text.tokenizer import Tokenizer

SHOWN = 3  # windows of text that are coloured
NATS = (1.0, 2.5, 4.5, 7.0)  # between the shades of the coloured text


def positions(trained: Trained) -> Section:
    """Returns how alike the positions are to the model."""
    model = trained.config.model
    similarity_PP = introspect.position_similarity(trained.params, model)
    plot = heat_map(f"Similarity of positions 0 to {model.context_len - 1}", similarity_PP, cell=6)
    if model.positions == "learned":
        lead = (
            "Attention alone would read a bag of tokens. So each place has a learned vector that is added to the "
            "token's. Strong cells off the diagonal are places that have become alike to the model: a band along it "
            "means that neighbours have, stripes mean that the text has a rhythm."
        )
    else:
        lead = (
            "Attention alone would read a bag of tokens. This model's positions are rotary, so they are not learned: "
            "queries and keys are turned by an angle that grows with the place. Shown is how alike the same vector "
            "remains to itself, turned to two places: it depends on nothing but the distance between them."
        )
    lowest = float(similarity_PP.min())
    caption = f"Cosine, from {lowest:.2f} to 1 on the diagonal" + "; negative in the second colour." * (lowest < 0)
    return Section("positions", "Where tokens sit", lead, figure(plot, caption, "square"), {"positions": plot})


def difficulty(
    trained: Trained, record: Record, text: HeldOut | None, why_not: str, counts_V: np.ndarray | None
) -> Section:
    """Returns text coloured by loss, and the loss by the tokens' frequency and by the context before them."""
    tokenizer, title = trained.run.tokenizer, "What it finds hard"
    lead = (
        "Real text, each token coloured by the model's surprise at it, knowing only what stands before it. In "
        "most text endings and small words come easily; names and what carries the news do not."
    )
    if text is None:
        shown = said(record)[: trained.config.model.context_len]
        sorry = note(
            f"The run's own corpus is not at hand ({why_not}). This is its last sample instead: text of its own."
        )
        if len(shown) < 2:
            return Section("difficulty", title, lead, sorry)
        batch = text_batch(shown)
        lost = introspect.losses(trained.params, trained.config.model, batch)
        return Section("difficulty", title, lead, sorry + _scale() + _coloured(tokenizer, batch, lost, 0))
    batch = text.batch
    lost = introspect.losses(trained.params, trained.config.model, batch)
    rows = np.unique(np.linspace(0, len(batch.tokens) - 1, SHOWN).round().astype(int))
    shown = "".join(_coloured(tokenizer, batch, lost, row) for row in rows)
    counted_BT = np.asarray(batch.weights) > 0
    nats, targets = lost.nats_BT[counted_BT], np.asarray(batch.targets)[counted_BT]
    plots = {"loss-by-context": _by_context(batch, lost)}
    captions = {
        "loss-by-frequency": "The mean loss of tokens by their rank in the training text, and what part of all loss "
        "falls on them.",
        "loss-by-context": "The mean loss by how many tokens stood before: where it falls, the model makes use of what "
        "it has read.",
    }
    if counts_V is not None or introspect.is_by_frequency(tokenizer):
        ids = introspect.ordinary_tokens(tokenizer, counts_V, most=tokenizer.vocab_size)
        plots = {"loss-by-frequency": _by_frequency(tokenizer, nats, targets, ids)} | plots
    charts = "".join(figure(plot, captions[name]) for name, plot in plots.items())
    body = f'{note(text.note)}{_scale()}{shown}<h3>Over {len(nats):,} tokens</h3><div class="grid">{charts}</div>'
    return Section("difficulty", title, lead, body, plots, is_open=True)


def sections(trained: Trained, record: Record) -> list[Section]:
    """Returns all that can be seen inside the model; held-out text is looked for once, and may be missing."""
    text, why_not = None, ""
    try:
        text = held_out(record.run)
    except (UserError, OSError) as error:
        why_not = str(error).split(";")[0].split(". ")[0].rstrip(".")
    run = record.run
    counts_V = None if introspect.is_by_frequency(run.tokenizer) else _counts(run)
    return [
        difficulty(trained, record, text, why_not, counts_V),
        token_map(trained, counts_V),
        attention(trained, record, text, counts_V),
        positions(trained),
    ]


def _counts(run: Run) -> np.ndarray | None:
    return token_counts(run.data, run.tokenizer, run.config.data)


def _coloured(tokenizer: Tokenizer, batch, lost: introspect.Losses, row: int) -> str:
    """Returns the targets of one row as HTML, coloured by loss where they count."""
    spans = []
    weights_T = np.asarray(batch.weights)[row]
    segments_T = weights_T if batch.segments is None else np.asarray(batch.segments)[row]
    for t, target in enumerate(np.asarray(batch.targets)[row]):
        token = escape(tokenizer.token_text(int(target)))
        if segments_T[t] == 0:
            continue
        if weights_T[t] == 0:
            spans.append(f'<span class="plain">{token}</span>')
            continue
        nats, guess = float(lost.nats_BT[row, t]), tokenizer.token_text(int(lost.guess_BT[row, t]))
        expected = "as expected" if lost.guess_BT[row, t] == target else f"expected {guess}"
        told = escape(f"{nats:.2f} nats, p = {np.exp(-nats):.2g}; {expected}")
        spans.append(f'<span class="{_shade(nats)}" title="{told}">{token}</span>')
    between = " " if tokenizer.kind == "word" else "<wbr>"  # a token that begins with a blank shows it
    return f'<p class="tokens">{between.join(spans)}</p>'


def _shade(nats: float) -> str:
    return f"n{sum(nats > bound for bound in NATS)}"


def _scale() -> str:
    bounds = [0.0, *NATS]
    steps = [f'<span class="{_shade(bound + 0.01)}">over {bound:g}</span>' for bound in bounds]
    told = "Point at a token, or tap it, for its loss and what was expected."
    return f'<p class="note scale">nats: {"".join(steps)} {told}</p>'


def _by_frequency(tokenizer: Tokenizer, nats: np.ndarray, targets: np.ndarray, frequent_N: np.ndarray) -> str:
    """Returns the mean loss by the rank of tokens, of which `frequent_N` is the order; what is not in it is rarest."""
    bounds = [0, 10, 100, 1_000, 5_000, 10_000, 10**9]
    rank_V = np.full(tokenizer.vocab_size, 10**9 - 1)
    rank_V[frequent_N] = np.arange(len(frequent_N))
    special = np.isin(targets, tokenizer.special.ids)
    rank = np.where(special, -1, rank_V[targets])
    end = "line end" if tokenizer.special.newline == tokenizer.special.eos else "document end"
    groups = [(f"special ({end}{', <unk>' if tokenizer.special.unk is not None else ''})", special)]
    for low, high in pairwise(bounds):
        name = f"{low + 1:,} to {high:,}" if high < 10**9 else f"beyond {low:,}"
        groups.append((f"token {name}", (rank >= low) & (rank < high)))
    rows = []
    for name, chosen in groups:
        if chosen.any():
            told = f"{np.mean(nats[chosen]):.3g}, {np.sum(nats[chosen]) / np.sum(nats):.0%} of all loss"
            rows.append((name, float(np.mean(nats[chosen])), told))
    return bar_chart("Loss by how frequent the token is", rows, width=500, name_width=180)


def _by_context(batch, lost: introspect.Losses) -> str:
    """Returns mean loss by the number of tokens seen, in stretches long enough for a mean."""
    B, T = lost.nats_BT.shape
    seen_BT = np.broadcast_to(np.arange(T), (B, T)) if batch.positions is None else np.asarray(batch.positions)
    counted_BT = np.asarray(batch.weights) > 0
    edges = [0, *(low for low in (4 * 2**i for i in range(20)) if low < T), T]
    x, y = [], []
    for low, high in pairwise(edges):
        chosen = counted_BT & (seen_BT >= low) & (seen_BT < high)
        if chosen.any():
            x.append(float(np.mean(seen_BT[chosen] + 1)))
            y.append(float(np.mean(lost.nats_BT[chosen])))
    return line_chart("Loss by context", [Line("", np.array(x), np.array(y), 1, "dots")], "tokens seen", "")
