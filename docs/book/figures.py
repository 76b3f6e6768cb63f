"""Draws the figures of the book from a run of configs/book.py.

python -m docs.book.figures runs/book
python -m docs.book.figures runs/book elsewhere/       # into another folder
"""

import re
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxgpt.command_line import main
from jaxgpt.errors import UserError
from jaxgpt.inference.introspect import activations, directions, losses, position_similarity, project
from jaxgpt.model.gpt import Params
from jaxgpt.ops.attention import attention_mask
from jaxgpt.report.charts import Point, bar_chart, heat_map, scatter, standalone
from jaxgpt.report.curves import curves
from jaxgpt.report.run_data import read_record, text_batch
from jaxgpt.run.load import Trained, load_trained
from jaxgpt.text.conversation import render
from jaxgpt.text.corpora.tinyworld import world
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import init_state

FOLDER = Path(__file__).parent / "figures"
SENTENCE = "One morning, the dog and the cat wanted to run a race."
TALKS = (("What does a cow eat?", "A cow eats grass."), ("Hello!", "Hello! Do you want to hear a story?"))
KINDS = {
    "people": [*world.GIRLS, *world.BOYS, *(elder.name for elder in world.ELDERS)],
    "animals": [animal.name for animal in world.ANIMALS],
    "places": [place.name for place in world.PLACES],
    "colours": world.COLORS,
    "food": [*world.SWEETS, *world.FRUITS],
    "things": [*world.TOYS, *world.TREASURES, *world.CLOTHES],
}
GAP = 16


def figures(trained: Trained) -> Iterator[tuple[str, str]]:
    """Yields (name, SVG) of every figure; raises UserError where the run has no learned positions to show."""
    config, tokenizer = trained.config, trained.run.tokenizer
    if config.model.positions != "learned":
        raise UserError(
            f"{trained.run.path}: its positions are rotary; the book is drawn from a run of configs/book.py"
        )
    untrained = init_state(config, make_optimizer(config.optimizer, 1)).params
    stages = (("before training", untrained), ("after training", trained.params))
    ids = [tokenizer.special.eos, *tokenizer.encode(SENTENCE)]
    yield "words", beside([_map(f"Words {when}", tokenizer, params) for when, params in stages], 2)
    yield (
        "positions",
        beside(
            [heat_map(f"Places {when}", position_similarity(p, config.model, most=32), cell=9) for when, p in stages], 2
        ),
    )
    yield "attention", beside(list(_heads(trained, ids)), config.model.num_heads)
    yield "surprise", beside([_surprise(trained, ids)], 1)
    yield "loss", beside([curves(read_record(trained.run.path)).plots["loss"]], 1)
    yield "mask", beside([_mask(tokenizer)], 1)


def _map(title: str, tokenizer: Tokenizer, params: Params) -> str:
    """Returns the words of each kind in the plane in which their vectors differ most."""
    table_VD = directions(params["token_embedding"])
    known = [(word, kind) for kind, words in enumerate(KINDS.values()) for word in words if word in tokenizer.words]
    xy_N2, _ = project(table_VD[[tokenizer.words.index(word) for word, _ in known]])
    points = [Point(word, float(x), float(y), kind, True) for (word, kind), (x, y) in zip(known, xy_N2, strict=True)]
    return scatter(title, points, list(KINDS), size=(560, 440))


def _heads(trained: Trained, ids: Sequence[int]) -> Iterator[str]:
    names = [trained.run.tokenizer.token_text(int(id)) for id in ids]
    for layer, maps in enumerate(activations(trained.params, trained.config.model, ids).weights_LNTS, start=1):
        for head, weights_TS in enumerate(maps, start=1):
            yield heat_map(f"block {layer}, head {head}", weights_TS, names, names)


def _surprise(trained: Trained, ids: Sequence[int]) -> str:
    words = trained.run.tokenizer.words
    nats_BT, guess_BT = losses(trained.params, trained.config.model, text_batch(ids))
    rows = [
        (words[id], float(nats), f"{nats:.2f}" if id == guess else f"{nats:.2f}; its bet: {words[guess]}")
        for id, nats, guess in zip(ids[1:], nats_BT[0], guess_BT[0], strict=True)
    ]
    return bar_chart("What each word costs, in nats", rows, width=520, name_width=80)


def _mask(tokenizer: Tokenizer) -> str:
    """Returns two conversations in one row: who sees whom, and, stronger, on the diagonal, whose next word counts."""
    words, segments, counts = [], [], []
    for segment, (question, answer) in enumerate(TALKS):
        talk = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        ids, mask = render(talk, tokenizer)
        words += [tokenizer.token_text(int(id)) for id in ids[:-1]]
        segments += [segment] * (len(ids) - 1)
        counts += mask[1:]
    sees_TS = 0.35 * np.asarray(attention_mask(jnp.asarray([segments])))[0]
    sees_TS[np.diag_indices(len(words))] = np.where(counts, -1.0, 0.35)
    return heat_map("Two conversations in one row", sees_TS, words, words, cell=14)


def beside(charts: Sequence[str], columns: int) -> str:
    """Returns charts as one, row by row, at their own size."""
    sizes = [[int(n) for n in re.findall(r"\d+", chart.partition(' role="')[0])[2:]] for chart in charts]
    width, height = (max(size[axis] for size in sizes) + GAP for axis in (0, 1))
    parts = []
    for place, (chart, size) in enumerate(zip(charts, sizes, strict=True)):
        x, y = GAP + place % columns * width, GAP + place // columns * height
        parts.append(chart.replace("<svg ", f'<svg x="{x}" y="{y}" width="{size[0]}" height="{size[1]}" ', 1))
    whole = GAP + min(columns, len(charts)) * width, GAP + -(-len(charts) // columns) * height
    told = escape(", ".join(re.findall(r'aria-label="([^"]*)"', "".join(charts))), quote=False)
    return (
        f'<svg viewBox="0 0 {whole[0]} {whole[1]}" width="{whole[0]}" height="{whole[1]}" role="img" '
        f'aria-label="{told}">{"".join(parts)}</svg>'
    )


def draw() -> None:
    """Draws the figures of the run named on the command line."""
    if len(sys.argv) not in (2, 3):
        raise UserError("figures: name a run, for example runs/book")
    folder = Path(sys.argv[2]) if len(sys.argv) == 3 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in figures(load_trained(sys.argv[1])):
        file = folder / f"{name}.svg"
        file.write_text(standalone(svg), encoding="utf-8")
        print(f"{file}: {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(draw)
