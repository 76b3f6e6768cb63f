"""A text's walk through a model, told in lines: tokens, vectors, attention, what each block changes, the next token."""

from collections.abc import Iterator, Sequence

import numpy as np

from jaxgpt.config import ModelConfig
from jaxgpt.inference.chat import fit_history
from jaxgpt.inference.generate import encode_prompt
from jaxgpt.inference.introspect import Activations, activations, likeliest, turned
from jaxgpt.model.parameters import embedding, position_embedding
from jaxgpt.run.load import Trained
from jaxgpt.text.conversation import prompt_of, render_message
from jaxgpt.text.tokenizer import Tokenizer

NUMBERS = 3  # of a vector that are shown
LIKELIEST = 5
SHADES = "·░▒▓█"
WIDEST = 110  # columns that maps side by side may take


def tokens_of(trained: Trained, text: str) -> list[int]:
    """Returns the ids that the model reads for a text: as a document begins, or as what a user says.

    Raises UserError where the text is empty or too long.
    """
    tokenizer, model = trained.run.tokenizer, trained.config.model
    if trained.run.data.is_chat:
        said = render_message({"role": "user", "content": text}, tokenizer)
        return prompt_of(fit_history([said], model.context_len), tokenizer)
    return [tokenizer.special.bos, *encode_prompt(text, tokenizer, model)]


def explain(trained: Trained, text: str) -> Iterator[str]:
    """Yields the lines of a text's walk through the model; raises UserError where it is empty or too long."""
    tokenizer, model = trained.run.tokenizer, trained.config.model
    tokens = tokens_of(trained, text)
    seen = activations(trained.params, model, tokens)
    names = [tokenizer.token_text(token) for token in tokens]
    yield f"{trained.run.path}, step {trained.step}: {text!r} on its way through the model"
    yield from _vectors(trained, tokens, names, seen)
    for layer in range(model.num_layers):
        yield from _attention(model, names, seen, layer)
        yield from _change(tokenizer, names, seen, layer)
    yield from _next_token(model, tokenizer, names, seen)


def _vectors(trained: Trained, tokens: Sequence[int], names: Sequence[str], seen: Activations) -> Iterator[str]:
    model, T = trained.config.model, len(tokens)
    D, V = model.embed_dim, model.vocab_size
    learned = model.positions == "learned"
    yield ""
    yield f"1. Text becomes tokens, and each id a vector: ids [{T}] -> x [{T}, {D}]"
    yield f"   who I am: row `id` of the token embedding [{V:,}, {D}]"
    if learned:
        yield f"   where I sit: row `place` of the position embedding [{model.context_len}, {D}]; x is their sum"
    else:
        yield "   where I sit: rotary positions add nothing here; each block turns queries and keys by their place"
    width = max(len("token"), *map(len, names))
    identity = np.asarray(embedding(trained.params), np.float32)[np.asarray(tokens)]
    vectors = ("who I am", "where I sit", "x") if learned else ("who I am: x",)
    column = len(_numbers(identity[0])) + 3
    heads = "".join(f"{vector:{column}}" for vector in vectors)
    yield f"   place  {'token':{width}}  {'id':>6}   {heads}".rstrip()
    for place, (name, token) in enumerate(zip(names, tokens, strict=True)):
        line = f"   {place:5}  {name:{width}}  {token:6}   {_numbers(identity[place])}"
        if learned:
            where = np.asarray(position_embedding(trained.params), np.float32)[place]
            line += f" + {_numbers(where)} = {_numbers(seen.residual_KTD[0, place])}"
        yield line


def _attention(model: ModelConfig, names: Sequence[str], seen: Activations, layer: int) -> Iterator[str]:
    N, T, H = model.num_heads, len(names), model.head_size
    yield ""
    yield (
        f"{layer + 2}. Block {layer + 1}. Attention: queries [{N}, {T}, {H}] meet keys [{model.num_kv_heads or N}, "
        f"{T}, {H}], weights [{N}, {T}, {T}]; a row asks, a column answers"
    )
    width = max(map(len, names))
    maps = seen.weights_LNTS[layer]
    cell = max(T, len("head 00"))
    if width + N * (cell + 2) <= WIDEST:
        heads = (f"head {head + 1}" for head in range(N))
        yield f"   {'':{width}}  {'  '.join(f'{head:{cell}}' for head in heads)}".rstrip()
        for t, name in enumerate(names):
            rows = ("".join(_shade(maps[head, t, s]) if s <= t else " " for s in range(T)) for head in range(N))
            yield f"   {name:>{width}}  {'  '.join(f'{row:{cell}}' for row in rows)}".rstrip()
    else:
        yield f"   left out, as side by side they are wider than {WIDEST} columns: the {N} maps of these weights"
    yield f"   what {names[-1]!r}, the last one, takes:"
    for head in range(N):
        weights_S = maps[head, -1]
        most = np.argsort(-weights_S, kind="stable")[:3]
        yield f"     head {head + 1}: {', '.join(f'{names[s]} {weights_S[s]:.0%}' for s in most)}"


def _change(tokenizer: Tokenizer, names: Sequence[str], seen: Activations, layer: int) -> Iterator[str]:
    before_D, after_D = seen.residual_KTD[layer, -1], seen.residual_KTD[layer + 1, -1]
    sizes = [float(np.linalg.norm(x_D)) for x_D in (before_D, after_D)]
    (guess, p), (guess_after, p_after) = (likeliest(seen.log_p_KTV[k, -1], 1)[0] for k in (layer, layer + 1))
    yield (
        f"   attention and mlp were added to the vector of {names[-1]!r}: its length was {sizes[0]:.3g}, is "
        f"{sizes[1]:.3g}, and it turned by {turned(before_D, after_D):.0f} degrees"
    )
    token, token_after = tokenizer.token_text(guess), tokenizer.token_text(guess_after)
    yield (
        f"   did the model end here, its likeliest next token would be {token_after!r}, {p_after:.0%} "
        f"(before this block {token!r}, {p:.0%})"
    )


def _next_token(model: ModelConfig, tokenizer: Tokenizer, names: Sequence[str], seen: Activations) -> Iterator[str]:
    D, V = model.embed_dim, model.vocab_size
    which = "the token embedding again" if model.tie_embeddings else "a matrix of its own"
    yield ""
    yield f"{model.num_layers + 2}. The next token: the normed last vector [{D}] times the head [{V:,}, {D}], {which}"
    found = likeliest(seen.log_p_KTV[-1, -1], LIKELIEST)
    width = max(len(tokenizer.token_text(token)) for token, _ in found)
    for token, p in found:
        bar = "█" * round(40 * p)
        yield f"   {tokenizer.token_text(token):{width}}  {p:6.1%}  {bar}".rstrip()
    others = 1 - sum(p for _, p in found)
    yield f"   and {V - len(found):,} others share {max(0.0, others):.1%}"


def _numbers(vector_D: np.ndarray) -> str:
    shown = " ".join(f"{x:+.2f}" for x in vector_D[:NUMBERS])
    return f"[{shown} …]" if len(vector_D) > NUMBERS else f"[{shown}]"


def _shade(weight: float) -> str:
    return SHADES[min(len(SHADES) - 1, int(weight * len(SHADES)))]
