"""Draws the figures of the book from a run of configs/book.py.

python -m docs.book.figures runs/book
python -m docs.book.figures runs/book elsewhere/       # into another folder
"""

import math
import re
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxgpt.entry import main
from jaxgpt.errors import UserError
from jaxgpt.inference.introspect import activations, directions, losses, position_similarity, project
from jaxgpt.model.gpt import Params
from jaxgpt.ops.attention import attention_mask
from jaxgpt.report.charts import Line, Point, bar_chart, heat_map, line_chart, scatter, standalone
from jaxgpt.report.curves import curves
from jaxgpt.report.run_data import read_record, text_batch
from jaxgpt.run.load import Trained, load_trained
from jaxgpt.text.conversation import render
from jaxgpt.text.corpora.tinyworld import world
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import init_state

FOLDER = Path(__file__).parent / "figures"
FIRST = "The cat saw a dog."  # of chapter 1
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
COLUMNS = ("query", "key", "value")  # of the picture of the cache
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
    yield "ids", beside([_ids(trained)], 1)
    yield "words", beside([_map(f"Words {when}", tokenizer, params) for when, params in stages], 2)
    yield (
        "positions",
        beside(
            [heat_map(f"Places {when}", position_similarity(p, config.model, most=32), cell=9) for when, p in stages], 2
        ),
    )
    yield "attention", beside(list(_heads(trained, ids)), config.model.num_heads)
    yield "block", beside([_block(config.model.embed_dim)], 1)
    yield "nats", beside([_nats()], 1)
    yield "surprise", beside([_surprise(trained, ids)], 1)
    yield "loss", beside([curves(read_record(trained.run.path)).plots["loss"]], 1)
    yield "step", beside([_step()], 1)
    yield "mask", beside([_mask(tokenizer)], 1)
    names = [tokenizer.token_text(int(id)) for id in ids[:7]]
    yield "cache", beside([_cache(names, False), _cache(names, True)], 2)
    yield "mesh", beside([_mesh()], 1)


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


def _ids(trained: Trained) -> str:
    """Returns a sentence as text, as words, as ids and as vectors, of which the first numbers are shown."""
    tokenizer = trained.run.tokenizer
    ids, shown = tokenizer.encode(FIRST), 12
    table_VD = np.asarray(trained.params["token_embedding"])
    most = np.abs(table_VD[ids, :shown]).max()
    left, column, rows = 150, 70, (44, 90, 146, 196)
    told = (
        ("text", ""),
        ("words", "cut by split"),
        ("ids", "places in the vocabulary"),
        ("vectors", "rows of a table"),
    )
    parts = [_words(left, rows[0] + 4, FIRST, "label")]
    for y, (name, how) in zip(rows, told, strict=True):
        parts += [_words(0, y + 4, name, "label"), _words(0, y + 19, how)]
    for place, id in enumerate(ids):
        x = left + place * column
        middle = x + 30
        parts += [_box(x, rows[1] - 14, 60, 26, tokenizer.token_text(id)), _arrow((middle, 104), (middle, 128))]
        parts += [_box(x, rows[2] - 14, 60, 26, str(id)), _arrow((middle, 160), (middle, 184))]
        for row, value in enumerate(table_VD[id, :shown]):
            strength = round(0.08 + 0.92 * abs(float(value)) / most, 2)
            parts.append(_cell(middle - 13, 188 + 9 * row, 26, 8, int(value < 0), strength))
        parts.append(_words(middle, 188 + 9 * shown + 11, "\u22ee", "middle"))
    parts.append(_words(0, 238, f"{shown} of {table_VD.shape[1]} numbers:"))
    parts.append(_words(0, 253, "blue above 0, red below"))
    return _diagram("From text to vectors", left + column * len(ids), 316, parts)


def _block(size: int) -> str:
    """Returns a block: the residual stream, and beside it what reads from it and adds to it."""
    stream, branch = 62, 132
    parts = [
        f'<path class="line s0" style="stroke-width:3" d="M0 {stream}H632"/>',
        _head((640, stream), (1, 0), "f0"),
        _words(0, stream - 16, f"x [T, {size}]", "label"),
        _words(640, stream - 16, f"x [T, {size}]", "label end"),
        _words(320, stream - 16, "the residual stream: what was there stays", "middle"),
    ]
    for x, name, told in ((60, "attention", "news from other words"), (340, "mlp", "each word alone")):
        parts += [
            _arrow((x, stream), (x, branch), (x + 24, branch)),
            _box(x + 24, branch - 16, 64, 32, "norm"),
            _words(x + 56, branch + 32, "of one size", "middle"),
            _arrow((x + 88, branch), (x + 124, branch)),
            _box(x + 124, branch - 16, 84, 32, name),
            _words(x + 166, branch + 32, told, "middle"),
            _arrow((x + 208, branch), (x + 240, branch), (x + 240, stream + 10)),
            f'<circle cx="{x + 240}" cy="{stream}" r="10" style="fill:var(--card);stroke:var(--quiet)"/>',
            _words(x + 240, stream + 4, "+", "label middle"),
        ]
    return _diagram("A block", 640, 176, parts)


def _nats() -> str:
    """Returns the surprise at a probability, with those of one coin flip, of two, and so on."""
    p = np.linspace(0.01, 1, 100)
    lines = [Line("-log p", p, -np.log(p))]
    for flips in range(1, 6):
        name = "as many coin flips: 1 to 5" if flips == 1 else ""
        lines.append(Line(name, np.array([0.5**flips]), np.array([flips * math.log(2)]), 1, "dots"))
    return line_chart("Surprise, nats", lines, "probability of what came", "", from_zero=True)


def _step() -> str:
    """Returns a step of training as a circle: forward to the loss, backward to the gradient, and a move."""
    middle, bottom = 116, 196
    parts = [
        _box(210, 34, 330, 28, "batch"),
        _box(1, middle - 17, 110, 34, "parameters"),
        _box(210, middle - 17, 110, 34, "model"),
        _box(430, middle - 17, 110, 34, "loss"),
        _arrow((265, 62), (265, middle - 17)),
        _words(271, 85, "tokens"),
        _arrow((485, 62), (485, middle - 17)),
        _words(491, 85, "targets"),
        _arrow((111, middle), (210, middle)),
        _arrow((320, middle), (430, middle)),
        _words(375, middle - 7, "scores", "middle"),
        _arrow((485, middle + 17), (485, bottom - 17), colour=1),
        _words(491, 156, "backpropagation"),
        _box(430, bottom - 17, 110, 34, "gradient"),
    ]
    for x, name, told in (
        (330, "clip", "at most 1 long"),
        (230, "Adam", "all at one speed"),
        (130, "decay", "towards 0"),
    ):
        parts += [
            _arrow((x + 100 if x < 330 else 430, bottom), (x + 66, bottom), colour=1),
            _box(x, bottom - 17, 66, 34, name),
            _words(x + 33, bottom + 32, told, "middle"),
        ]
    parts += [
        _arrow((130, bottom), (55, bottom), (55, middle + 17), colour=1),
        _words(64, 154, "minus the rate"),
        _words(64, 168, "times this"),
    ]
    return _diagram("One step", 590, 234, parts)


def _cache(names: Sequence[str], is_kept: bool) -> str:
    """Returns what is computed to go on after the last of these words, and what is read from the cache."""
    left, top, cell, wide = 56, 62, 18, 40
    triangle = left + 3 * (wide + 4) + 14
    parts = [
        _words(left + place * (wide + 4) + wide / 2, top - 7, name, "middle") for place, name in enumerate(COLUMNS)
    ]
    parts.append(_words(triangle + len(names) * cell / 2, top - 7, "who looks at whom", "middle"))
    for row, name in enumerate(names):
        y, is_new = top + row * cell, row == len(names) - 1
        parts.append(_words(left - 6, y + 13, name, "end label"))
        for place, column in enumerate(COLUMNS):
            x = left + place * (wide + 4)
            colour = 1 if is_new or not is_kept else None if column == "query" else 0
            parts.append(_cell(x, y + 1, wide, cell - 2, colour))
        for seen in range(row + 1):
            colour = 1 if is_new or not is_kept else None
            parts.append(_cell(triangle + seen * cell + 1, y + 1, cell - 2, cell - 2, colour))
    y, entries = top + len(names) * cell + 14, ((1, "computed"), (0, "read from the cache"), (None, "not needed"))
    x = 0.0
    for colour, told in entries if is_kept else entries[:1]:
        parts += [_cell(x, y, 10, 10, colour), _words(x + 15, y + 9, told)]
        x += 34 + 5.6 * len(told)
    title = "With the cache" if is_kept else "Without a cache"
    return _diagram(title, triangle + len(names) * cell + 6, y + 16, parts)


def _mesh() -> str:
    """Returns the eight devices of a mesh of 2 x 2 x 2, each with its part of a batch of 8 texts and of a matrix."""
    left, top, card, tall, gap = 44, 66, 124, 74, 8
    group = 2 * (card + gap) + 20
    parts = []
    for data in range(2):
        start = left + data * group
        parts.append(_words(start + card + gap / 2, 34, f"data {data}", "label middle"))
        for tensor in range(2):
            parts.append(_words(start + tensor * (card + gap) + card / 2, top - 9, f"tensor {tensor}", "middle"))
        for fsdp in range(2):
            y = top + fsdp * (tall + gap)
            if not data:
                parts.append(_words(left - 6, y + tall / 2 + 4, f"fsdp {fsdp}", "end"))
            for tensor in range(2):
                x = start + tensor * (card + gap)
                parts += [_box(x, y, card, tall), *_held(x + 12, y + 13, 2 * data + fsdp, fsdp, tensor)]
    y = top + 2 * (tall + gap) + 12
    parts += [_cell(left, y, 10, 10, 0), _words(left + 15, y + 9, "its 2 of 8 texts")]
    parts += [_cell(left + 140, y, 10, 10, 1), _words(left + 155, y + 9, "its 32 x 128 of a matrix of 64 x 256")]
    return _diagram("Eight devices", left + 2 * group - 20, y + 18, parts)


def _held(x: float, y: float, quarter: int, row: int, column: int) -> Iterator[str]:
    """Yields a batch with one quarter filled, and beside it a matrix with one part of four."""
    for text in range(8):
        yield _cell(x, y + 6 * text, 28, 5, 0 if text // 2 == quarter else None)
    for i, j in np.ndindex(2, 2):
        yield _cell(x + 40 + 30 * j, y + 6 + 18 * i, 29, 17, 1 if (i, j) == (row, column) else None)


def _words(x: float, y: float, words: str, classes: str = "") -> str:
    named = f' class="{classes}"' if classes else ""
    return f'<text{named} x="{x:g}" y="{y:g}">{escape(words)}</text>'


def _box(x: float, y: float, width: float, height: float, words: str = "") -> str:
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    written = _words(x + width / 2, y + height / 2 + 4, words, "label middle") if words else ""
    return f'<rect {place} rx="3" style="fill:var(--card);stroke:var(--rule)"/>{written}'


def _cell(x: float, y: float, width: float, height: float, colour: int | None, strength: float = 0.8) -> str:
    """Returns a small rectangle, an outline where it has no colour."""
    drawn = 'class="grid"' if colour is None else f'class="f{colour}" fill-opacity="{strength}"'
    return f'<rect {drawn} x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>'


def _arrow(*points: tuple[float, float], colour: int | None = None) -> str:
    """Returns a line through these points, each straight above, below or beside the one before, with a head."""
    (x0, y0), (x, y) = points[-2:]
    way = (float(np.sign(x - x0)), float(np.sign(y - y0)))
    line = "L".join(f"{a:g} {b:g}" for a, b in (*points[:-1], (x - 5 * way[0], y - 5 * way[1])))
    stroke = 'style="fill:none;stroke:var(--quiet);stroke-width:1.3"' if colour is None else f'class="line s{colour}"'
    return f'<path {stroke} d="M{line}"/>{_head((x, y), way, None if colour is None else f"f{colour}")}'


def _head(tip: tuple[float, float], way: tuple[float, float], named: str | None = None) -> str:
    (x, y), (dx, dy) = tip, way
    corners = ((x, y), *((x - 8 * dx + 4 * side * dy, y - 8 * dy + 4 * side * dx) for side in (-1, 1)))
    drawn = f'class="{named}"' if named else 'style="fill:var(--quiet)"'
    return f'<path {drawn} d="M{"L".join(f"{a:g} {b:g}" for a, b in corners)}z"/>'


def _diagram(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    """Returns drawn parts as a chart; its title is above them."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{_words(0, 13, title, 'title label')}{''.join(parts)}</svg>"
    )


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
