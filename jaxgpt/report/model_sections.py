"""What a model has become, as sections of a page: its tokens, its attention, its positions, what it finds hard."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from jaxgpt.data.reopen import token_counts
from jaxgpt.errors import UserError
from jaxgpt.inference import introspect
from jaxgpt.model.parameters import embedding
from jaxgpt.report.charts import Line, Point, bar_chart, heat_map, line_chart, scatter
from jaxgpt.report.markup import escape
from jaxgpt.report.page import Section, figure, note, table
from jaxgpt.report.run_data import HeldOut, Record, held_out, text_batch
from jaxgpt.run.folder import Run
from jaxgpt.run.load import Trained
from jaxgpt.text.tokenizer import MARKS, Tokenizer

SPACE = MARKS[" "]  # how the space before a word is shown
MAPPED, LABELLED = 1_200, 400  # most frequent tokens on the map, and those named if there is room
CHOSEN = ("he", "two", "was", "city", "red", "king", "water", "good", "March", "Lucy", "cow", "yesterday", "music")
MOST_CHOSEN, NEIGHBOURS = 9, 6
SENTENCE = (7, 16)  # tokens of the text whose attention is drawn
MOST_MAPS = 48  # attention maps; of a larger model the layers are spread
SHOWN = 3  # windows of text that are coloured
GROUPS = ("small letters", "capitalised", "number", "sign", "half a character, or unseen")
NATS = (1.0, 2.5, 4.5, 7.0)  # between the shades of the coloured text


def tokens(trained: Trained, counts_V: np.ndarray | None) -> Section:
    """Returns the map of the most frequent tokens' vectors, and the neighbours of some."""
    tokenizer = trained.run.tokenizer
    ids = introspect.ordinary_tokens(tokenizer, counts_V)
    table_VD = introspect.directions(np.asarray(embedding(trained.params))[ids])
    names = [tokenizer.token_text(id) for id in ids.tolist()]
    if min(table_VD.shape) < 3:
        return Section(
            "tokens", "The map of its tokens", "This vocabulary has too few tokens, or dimensions, for a map.", ""
        )
    shown_ND = table_VD[:MAPPED]
    xy_N2, share = introspect.project(shown_ND)
    points = [
        Point(names[i], float(x), float(y), _group(names[i]), i < LABELLED) for i, (x, y) in enumerate(xy_N2.tolist())
    ]
    known = counts_V is not None or introspect.is_by_frequency(tokenizer)
    plot = scatter(f"The {len(points):,} most frequent tokens" if known else f"{len(points):,} tokens", points, GROUPS)
    rows = [
        (
            names[i],
            " · ".join(f"{names[j]} {cosine:.2f}" for j, cosine in introspect.neighbours(table_VD, i, NEIGHBOURS)),
        )
        for i in _chosen(names)
    ]
    return Section(
        "tokens",
        "The map of its tokens",
        "To the model a token is a vector. Nobody told it what tokens mean: tokens that are used alike were pushed to "
        "similar directions. Nearest neighbours are measured in all dimensions, the map shows only two.",
        f'<div class="scroll">{figure(plot)}</div>'
        + note(
            f"The plane in which these vectors differ most (PCA of their directions) keeps {share:.0%} of the "
            "differences, so what is far apart here is far apart, and what is close may not be."
        )
        + f"<h3>Nearest neighbours, with the cosine of the angle</h3>{table(('Token', 'Nearest'), rows)}",
        {"tokens": plot},
    )


def attention(trained: Trained, record: Record, text: HeldOut | None) -> Section:
    """Returns every head's attention on one short text."""
    model, tokenizer = trained.config.model, trained.run.tokenizer
    read = _sentence(tokenizer, record, text)[: model.context_len]
    seen = introspect.activations(trained.params, model, read)
    names = [tokenizer.token_text(token) for token in read]
    layers = range(model.num_layers)
    if model.num_layers * model.num_heads > MOST_MAPS:
        count = max(2, MOST_MAPS // model.num_heads)
        layers = sorted({round(i) for i in np.linspace(0, model.num_layers - 1, count)})
    plots, parts = {}, []
    for layer in layers:
        maps = []
        for head in range(model.num_heads):
            weights_TS = seen.weights_LNTS[layer, head]
            plot = heat_map(f"block {layer + 1}, head {head + 1}", weights_TS, names, names)
            plots[f"attention-{layer + 1}-{head + 1}"] = plot
            maps.append(figure(plot, habit_words(introspect.habit(weights_TS))))
        parts.append(f'<h3>Block {layer + 1}</h3><div class="heads">{"".join(maps)}</div>')
    left_out = f" ({len(layers)} of {model.num_layers} blocks are shown.)" if len(layers) < model.num_layers else ""
    told = note(f"Read: {' '.join(names)}{left_out}")
    return Section(
        "attention",
        "Where each head looks",
        "Each row is a token that asks; the cells are the tokens before it, the darker the more it takes from them. "
        "Nothing is above the diagonal: no token may see what comes after it. Some heads look one token back, some "
        "rest on the first token when they have nothing to say, some search.",
        told + "".join(parts),
        plots,
    )


def habit_words(habit: introspect.Habit) -> str:
    """Returns where a head mostly looks, in a few words."""
    places = {"the token itself": habit.itself, "the token before": habit.before, "the first token": habit.first}
    place, share = max(places.items(), key=lambda item: item[1])
    return f"{share:.0%} on {place}" if share >= 0.35 else "spread out"


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
        said = _said(tokenizer, record)[: trained.config.model.context_len]
        sorry = note(
            f"The run's own corpus is not at hand ({why_not}). This is its last sample instead: text of its own."
        )
        if len(said) < 2:
            return Section("difficulty", title, lead, sorry)
        batch = text_batch(said)
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
        tokens(trained, counts_V),
        attention(trained, record, text),
        positions(trained),
    ]


def _counts(run: Run) -> np.ndarray | None:
    return token_counts(run.data, run.tokenizer, run.config.data)


def _group(word: str) -> int:
    word = word.removeprefix(SPACE) or word
    if "⟨" in word:
        return 4
    if any(letter.isdigit() for letter in word):
        return 2
    if not any(letter.isalpha() for letter in word):
        return 3
    return 1 if word[0].isupper() else 0


def _chosen(names: Sequence[str]) -> list[int]:
    """Returns tokens worth a look: the chosen ones that this vocabulary has, then frequent ones of some length."""
    plain = [name.removeprefix(SPACE) for name in names]  # a piece that begins a word has the space before it
    place = {name: i for i, name in reversed(list(enumerate(plain)))}
    found = [place[name] for name in CHOSEN if name in place]
    others = [i for i, name in enumerate(plain) if len(name) > 3 and name.isalpha() and i not in found]
    step = max(1, min(len(others), 400) // MOST_CHOSEN)
    frequent = [i for i, name in enumerate(plain) if name.isalnum()]  # where there are few words
    return list(dict.fromkeys([*found, *others[::step], *frequent]))[:MOST_CHOSEN]


def _sentence(tokenizer: Tokenizer, record: Record, text: HeldOut | None) -> list[int]:
    """Returns a short text with its start token: of held-out text the first that fits, or from the last sample."""
    least, most = SENTENCE
    chat, special = record.run.data.is_chat, tokenizer.special
    for row in np.asarray(text.batch.tokens) if text else []:
        for part in _exchanges(row, tokenizer) if chat else _sentences(row, tokenizer):
            if least <= len(part) <= most and special.unk not in part:
                return part
    return [special.bos, *_said(tokenizer, record)][:most]


def _sentences(tokens_T: np.ndarray, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Yields the whole sentences of a window, each after an end of line."""
    bos, part = tokenizer.special.bos, None  # a window may begin in the middle of a sentence
    for token in map(int, tokens_T):
        ends = tokenizer.token_text(token).strip('"⏎') == "."  # a piece may hold more than the full stop
        if part is not None and token != bos:
            part.append(token)
            if ends:
                yield part
        if token == bos or ends:
            part = [bos]


def _exchanges(tokens_T: np.ndarray, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Yields what was said in a row from each user message up to the end of the first reply."""
    special, part, replied = tokenizer.special, None, False
    for token in map(int, tokens_T):
        part = [*(part or []), token]
        if tuple(part[-len(special.user) :]) == special.user:
            part, replied = list(special.user), False
        replied = replied or tuple(part[-len(special.assistant) :]) == special.assistant
        if token == special.end and replied:
            if tuple(part[: len(special.user)]) == special.user:
                yield part
            part, replied = [], False


def _said(tokenizer: Tokenizer, record: Record) -> list[int]:
    """Returns the tokens of the run's last sample, or of its prompt."""
    text = record.samples[-1][1] if record.samples else record.run.config.run.sample_prompt
    return tokenizer.encode(text)


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
    return f'<p class="note scale">nats: {"".join(steps)} Point at a token for its loss and what was expected.</p>'


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
