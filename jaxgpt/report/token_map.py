"""The map of a model's tokens, as a section of a page: coloured by cluster, with the nearest neighbours of each."""

from collections.abc import Sequence

import numpy as np

from jaxgpt.inference import introspect
from jaxgpt.model.parameters import embedding
from jaxgpt.report.charts import COLOURS, Point, scatter
from jaxgpt.report.page import Section, figure, note, table
from jaxgpt.run.load import Trained
from jaxgpt.text.tokenizer import MARKS

SPACE = MARKS[" "]  # how the space before a word is shown
MAPPED, LABELLED = 1_200, 400  # most frequent tokens on the map, and those named if there is room
CHOSEN = ("he", "two", "was", "city", "red", "king", "water", "good", "March", "Lucy", "cow", "yesterday", "music")
MOST_CHOSEN, NEIGHBOURS = 9, 6
NAMING = 3  # tokens that name a cluster, its most frequent ones


def token_map(trained: Trained, counts_V: np.ndarray | None) -> Section:
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
    cluster_N = introspect.clusters(shown_ND, COLOURS).tolist()
    points = [
        Point(names[i], float(x), float(y), cluster_N[i], i < LABELLED) for i, (x, y) in enumerate(xy_N2.tolist())
    ]
    groups = [
        " · ".join([name for name, of in zip(names, cluster_N, strict=False) if of == cluster][:NAMING])
        for cluster in range(COLOURS)
    ]
    known = counts_V is not None or introspect.is_by_frequency(tokenizer)
    plot = scatter(f"The {len(points):,} most frequent tokens" if known else f"{len(points):,} tokens", points, groups)
    near = [
        [[j, round(cosine, 2)] for j, cosine in found]
        for found in introspect.neighbours_of_each(table_VD, range(len(points)), NEIGHBOURS)
    ]
    rows = [
        (names[i], " · ".join(f"{names[j]} {cosine:.2f}" for j, cosine in near[i]))
        for i in _chosen(names[: len(points)])
    ]
    return Section(
        "tokens",
        "The map of its tokens",
        "To the model a token is a vector. Nobody told it what tokens mean: tokens that are used alike were pushed to "
        "similar directions. Nearest neighbours and clusters are found in all dimensions, the map shows only two.",
        f'<div class="scroll" tabindex="0">{figure(plot, kind="map", data={"names": names, "near": near})}</div>'
        + note(
            f"The plane in which these vectors differ most (PCA of their directions) keeps {share:.0%} of the "
            "differences, so what is far apart here is far apart, and what is close may not be. Colours are clusters "
            f"(spherical k-means, k = {COLOURS}), each named by its most frequent tokens."
        )
        + f"<h3>Nearest neighbours, with the cosine of the angle</h3>{table(('Token', 'Nearest'), rows)}",
        {"tokens": plot},
    )


def _chosen(names: Sequence[str]) -> list[int]:
    """Returns tokens worth a look: the chosen ones that are among these names, then frequent ones of some length."""
    plain = [name.removeprefix(SPACE) for name in names]  # a piece that begins a word has the space before it
    place = {name: i for i, name in reversed(list(enumerate(plain)))}
    found = [place[name] for name in CHOSEN if name in place]
    others = [i for i, name in enumerate(plain) if len(name) > 3 and name.isalpha() and i not in found]
    step = max(1, min(len(others), 400) // MOST_CHOSEN)
    frequent = [i for i, name in enumerate(plain) if name.isalnum()]  # where there are few words
    return list(dict.fromkeys([*found, *others[::step], *frequent]))[:MOST_CHOSEN]
