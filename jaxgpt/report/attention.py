"""Where each head looks, as a section of a page: one large matrix, and all of them small to choose from."""

from collections.abc import Iterator

import numpy as np

from jaxgpt.inference import introspect
from jaxgpt.report.charts import heat_map
from jaxgpt.report.page import Section, figure, json_element, note
from jaxgpt.report.run_data import HeldOut, Record, said
from jaxgpt.run.load import Trained
from jaxgpt.text.tokenizer import Tokenizer

SENTENCE = (7, 16)  # tokens of the text whose attention is drawn
MOST_MAPS = 48  # attention maps; of a larger model the layers are spread
HABIT = 0.35  # share of a head's attention from which it is named after where that goes


def attention(trained: Trained, record: Record, text: HeldOut | None, counts_V: np.ndarray | None) -> Section:
    """Returns every head's attention on one short text, each named by its habit where it has one.

    `counts_V` is how often the model has read each token, where that is known.
    """
    model, tokenizer = trained.config.model, trained.run.tokenizer
    read = sentence(tokenizer, record, text)[: model.context_len]
    seen = introspect.activations(trained.params, model, read)
    copying_LN = introspect.copying(trained.params, model, introspect.ordinary_tokens(tokenizer, counts_V))
    names = [tokenizer.token_text(token) for token in read]
    layers = range(model.num_layers)
    if model.num_layers * model.num_heads > MOST_MAPS:
        count = max(2, MOST_MAPS // model.num_heads)
        layers = sorted({round(i) for i in np.linspace(0, model.num_layers - 1, count)})
    plots, heads, small, strongest = {}, [], "", (-1.0, 0)
    for layer in layers:
        maps = ""
        for head in range(model.num_heads):
            weights_TS = seen.weights_LNTS[layer, head]
            name = f"block {layer + 1}, head {head + 1}"
            share, habit = habit_words(introspect.habit(weights_TS), float(copying_LN[layer, head]))
            strongest = max(strongest, (share, -len(heads)))
            rows = [[round(float(weight), 3) for weight in row[: t + 1]] for t, row in enumerate(weights_TS)]
            heads.append({"name": f"B{name[1:]}", "habit": habit, "weights": rows})
            plots[f"attention-{layer + 1}-{head + 1}"] = heat_map(f"{name}: {habit}", weights_TS, names, names)
            maps += figure(heat_map(f"head {head + 1}", weights_TS, cell=12), habit)
        small += f'<h3 class="block">Block {layer + 1}</h3>{maps}'
    chosen = -strongest[1]
    large = list(plots.values())[chosen]
    left_out = f" ({len(layers)} of {model.num_layers} blocks are shown.)" if len(layers) < model.num_layers else ""
    told = note(f"Read: {' '.join(names)}{left_out}")
    return Section(
        "attention",
        "Where each head looks",
        "Each row is a token that asks; the cells are the tokens before it, the darker the more it takes from them. "
        "Nothing is above the diagonal: no token may see what comes after it. Heads that look one back, rest on the "
        "first token when they have nothing to say, or copy are named so: shown random tokens twice, a head that "
        "copies looks at what followed the same token the first time (an induction head, Olsson et al. 2022).",
        f'{told}<div class="attention"><figure class="large" data-head="{chosen}">{large}</figure>'
        f'<div class="heads">{small}</div>{json_element({"names": names, "heads": heads})}</div>',
        plots,
    )


def habit_words(habit: introspect.Habit, copying: float) -> tuple[float, str]:
    """Returns (share, words) of where a head mostly looks."""
    looks = {
        "looks at itself": habit.itself,
        "looks one back": habit.before,
        "looks at the first": habit.first,
        "copies": copying,
    }
    words, share = max(looks.items(), key=lambda item: item[1])
    return (share, f"{words}, {share:.0%}") if share >= HABIT else (0.0, "spread out")


def sentence(tokenizer: Tokenizer, record: Record, text: HeldOut | None) -> list[int]:
    """Returns a short text with its start token: of held-out text the first that fits, or from the last sample."""
    least, most = SENTENCE
    chat, special = record.run.data.is_chat, tokenizer.special
    for row in np.asarray(text.batch.tokens) if text else []:
        for part in _exchanges(row, tokenizer) if chat else _sentences(row, tokenizer):
            if least <= len(part) <= most and special.unk not in part:
                return part
    return [special.bos, *said(record)][:most]


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
