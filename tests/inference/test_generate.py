"""Generation equals the model read word by word, for prompts of any lengths, past the context and back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgpt.config import Config, MeshConfig, ModelConfig, Sampling
from jaxgpt.devices.mesh import inference_mesh
from jaxgpt.errors import RunError, UserError
from jaxgpt.inference.generate import banned_tokens, continue_text, encode_prompt, generate, stream
from jaxgpt.model.gpt import GPT, logits, unembedding
from jaxgpt.model.parameters import in_floats, in_int8
from jaxgpt.ops.sampling import GREEDY
from jaxgpt.run.load import abstract_on
from jaxgpt.text.bpe_tokenizer import byte_tokenizer
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer

WORDS = tuple(f"w{i}" for i in range(60 - len(SPECIAL)))
TOKENIZER = WordTokenizer(SPECIAL + WORDS)
CONFIG = ModelConfig(vocab_size=60, context_len=64, embed_dim=32, num_heads=4, num_layers=2)
STOP = TOKENIZER.special.end
BANNED = banned_tokens(TOKENIZER, STOP)
BYTES = byte_tokenizer()
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def params():
    """Larger weights than at initialisation, so that the likeliest words differ by more than rounding."""
    initial = nn.unbox(GPT(CONFIG).init(jax.random.key(3), jnp.zeros((1, 2), jnp.int32)))["params"]
    return jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, initial)


def word_by_word(params, prompt, count) -> list[int]:
    """Greedy generation the slow way: the whole text read again for each word, no cache."""

    @jax.jit
    def scores_after(tokens, length):
        hidden, _ = GPT(CONFIG).apply({"params": params}, tokens[None])  # what follows `length` cannot be seen
        return logits(unembedding(params), hidden[0, length - 1], 60)[:60]

    text = list(prompt)
    for _ in range(count):
        scores = scores_after(jnp.array(text + [0] * (64 - len(text))), len(text))
        text.append(int(jnp.argmax(jnp.where(BANNED, -jnp.inf, scores))))
        if text[-1] == STOP:
            return text[len(prompt) : -1]
    return text[len(prompt) :]


@pytest.mark.long
def test_eight_bits_write_what_their_floats_would(params):
    prompts = [[7, 8, 9], [20, 21, 22, 23, 24]]
    small = in_int8(params)
    sizes = [sum(x.nbytes for x in jax.tree.leaves(tree)) for tree in (small, params)]
    assert sizes[0] < 0.4 * sizes[1]  # of a network so thin, scales and vectors are some share
    together = generate(small, CONFIG, prompts, KEY, GREEDY, BANNED, STOP, 20)
    assert together == [word_by_word(in_floats(small), prompt, 20) for prompt in prompts]


def test_a_model_that_is_no_numbers_says_so(params):
    norm = params["final_norm"]
    for broken in (
        jax.tree.map(lambda x: x * jnp.nan, params),
        params | {"final_norm": {**norm, "scale": norm["scale"].at[3].set(jnp.nan)}},
    ):
        for sampling in (GREEDY, Sampling(), Sampling(top_k=3, top_p=0.9)):
            with pytest.raises(RunError, match="the model's scores are no finite numbers"):
                generate(broken, CONFIG, [[7, 8, 9]], KEY, sampling, BANNED, STOP, 20)


def test_batch_of_different_lengths_equals_word_by_word(params):
    prompts = [[10, 11, 12], [20], [30 + i for i in range(20)], [40, 41, 9, 8]]
    together = generate(params, CONFIG, prompts, KEY, GREEDY, BANNED, STOP, 20)
    assert together == [word_by_word(params, prompt, 20) for prompt in prompts]


@pytest.mark.long
def test_many_texts_are_those_they_would_be_alone(params):
    """Those of a length are read together, some go on past the context, and when most have ended the others move up."""
    prompts = [[8 + (3 * i + j) % 50 for j in range(1 + 6 * (i % 7))] for i in range(140)]
    keys = jax.random.split(KEY, 140)
    sampling = Sampling(temperature=1.0, top_p=None)
    banned = (np.arange(60) < 8) | (np.arange(60) >= 40)  # of few words one comes soon that ends the text
    together = generate(params, CONFIG, prompts, jax.random.key_data(keys), sampling, banned, 9, 80)
    lengths = sorted(map(len, together))
    assert lengths[70] < 40, "half have ended early"
    assert lengths[-2] == 80, "and some not at all"
    for row in (*range(0, 140, 17), int(np.argmax(list(map(len, together))))):
        alone = generate(params, CONFIG, [prompts[row]], keys[row], sampling, banned, 9, 80)
        assert [together[row]] == alone


def test_stream_gives_the_same_and_ends_at_the_stop_token(params):
    prompts = [[10, 11, 12], [20]]
    likeliest = generate(params, CONFIG, prompts, KEY, GREEDY, BANNED, STOP, 12)
    stop = likeliest[0][5]  # let a word that comes be the stop token
    first = likeliest[0].index(stop)
    banned = BANNED & (np.arange(60) != stop)
    stopped = generate(params, CONFIG, prompts, KEY, GREEDY, banned, stop, 12)
    assert stopped[0] == likeliest[0][:first]
    steps = list(stream(params, CONFIG, prompts[:1], KEY, GREEDY, banned, stop, 12))
    assert steps == [[token] for token in stopped[0]] + [[None]]


def test_unknown_and_control_tokens_never_come_out(params):
    loud = {**params, "token_embedding": params["token_embedding"].at[:STOP].mul(50.0)}
    sampling = Sampling(temperature=2.0, top_p=None)
    replies = generate(loud, CONFIG, [[10]] * 8, KEY, sampling, BANNED, STOP, 40)
    out = {token for reply in replies for token in reply}
    assert out
    assert out.isdisjoint(set(range(len(SPECIAL))) - {TOKENIZER.special.eos})


def test_past_the_context_the_oldest_go(params):
    """Text may grow without end; what is read again is the newer half."""
    prompt = [10 + i % 40 for i in range(100)]  # longer than the context of 64 already
    (reply,) = generate(params, CONFIG, [prompt], KEY, GREEDY, BANNED, STOP, 150)
    assert len(reply) == 150 or reply == word_by_word(params, prompt[-63:], len(reply))
    (first,) = generate(params, CONFIG, [prompt], KEY, GREEDY, BANNED, STOP, 1)
    assert first == word_by_word(params, prompt[-63:], 1)


def test_past_the_context_each_row_is_that_of_the_row_alone(params):
    """A short prompt beside one that fills the context, and one that is done: none is cut because of another."""
    prompts = [[10, 11, 12], [20 + i % 30 for i in range(60)], [41, 9], [30 + i % 9 for i in range(100)]]
    keys = jax.random.split(jax.random.key(1), len(prompts))
    warm = Sampling(temperature=1.3, top_p=0.95)
    alone = [generate(params, CONFIG, [p], KEY, GREEDY, BANNED, STOP, 150)[0] for p in prompts]
    stop = alone[2][3]  # let the third row end early
    banned = BANNED & (np.arange(60) != stop)
    for key, sampling in ((KEY, GREEDY), (keys, warm)):
        together = generate(params, CONFIG, prompts, key, sampling, banned, stop, 150)
        for row, prompt in enumerate(prompts):
            own = key if key is KEY else key[row]
            assert together[row] == generate(params, CONFIG, [prompt], own, sampling, banned, stop, 150)[0]


def test_mixed_products_do_not_make_a_row_depend_on_others(params):
    mixed = dataclasses.replace(CONFIG, dtype="mixed")
    prompts = [[10 + i, 11, 12] for i in range(8)]
    together = generate(params, mixed, prompts, KEY, GREEDY, BANNED, STOP, 40)
    assert together == [generate(params, mixed, [p], KEY, GREEDY, BANNED, STOP, 40)[0] for p in prompts]


def test_a_line_end_ends_a_text_only_where_it_is_asked(params):
    """The likeliest token is always the line's end."""
    ending = {
        **params,
        "final_norm": {"scale": jnp.zeros(32), "bias": params["token_embedding"][TOKENIZER.special.eos]},
    }

    def text(**options):
        return "".join(continue_text(ending, CONFIG, TOKENIZER, [10], KEY, GREEDY, 5, **options))

    assert text(stop_at_line_end=True) == "w3"
    assert text(stop_at_line_end=False) == "w3" + "\n" * 5


def test_a_line_break_that_is_text_ends_a_text_where_it_is_asked(params):
    """Bytes have no token for the end of a line: what follows it is cut off. A line break in the prompt stays."""
    config = dataclasses.replace(CONFIG, vocab_size=BYTES.vocab_size)
    drawn = nn.unbox(GPT(config).init(KEY, jnp.zeros((1, 4), jnp.int32)))["params"]
    (line_break,) = BYTES.encode("\n")
    drawn["final_norm"] = {
        "scale": jnp.zeros(32),
        "bias": 100 * drawn["token_embedding"][line_break],
    }  # always likeliest

    def text(stop_at_line_end):
        return "".join(continue_text(drawn, config, BYTES, BYTES.encode("a\nb"), KEY, GREEDY, 5, stop_at_line_end))

    assert text(stop_at_line_end=False) == "a\nb" + "\n" * 5
    assert text(stop_at_line_end=True) == "a\nb"


def test_a_top_k_beyond_the_vocabulary_keeps_all(params):
    asked = (Sampling(top_k=top_k) for top_k in (None, 10**12))
    one, other = (generate(params, CONFIG, [[10]], KEY, sampling, BANNED, STOP, 12) for sampling in asked)
    assert one == other


def test_the_key_decides_and_the_count_does_not(params):
    def draws(seed, count):
        return generate(params, CONFIG, [[10]], jax.random.key(seed), Sampling(), BANNED, STOP, count)[0]

    assert draws(0, 30) == draws(0, 30)
    assert draws(0, 30)[:7] == draws(0, 7)
    assert draws(0, 30) != draws(1, 30)


def test_continue_text_and_its_prompts(params):
    def text(prompt, count=5):
        ids = encode_prompt(prompt, TOKENIZER, CONFIG)
        return "".join(continue_text(params, CONFIG, TOKENIZER, ids, KEY, GREEDY, count))

    assert text("w1 w2").startswith("w1 w2 w")
    for prompt, message in (
        ("", "prompt: it is empty"),
        ("   ", "prompt: it is empty"),
        ("w1 " * 64, "prompt: it is 64 tokens"),
    ):
        with pytest.raises(UserError, match=message):
            text(prompt)
    assert text("w1 " * 63)
    with pytest.raises(ValueError, match="a prompt is empty"):
        next(stream(params, CONFIG, [[1], []], KEY, GREEDY, BANNED, STOP, 1))


def test_sharded_parameters_write_the_same(params):
    """As a model too large for one device is loaded: on the shards of its training."""
    mesh = inference_mesh(MeshConfig(fsdp=2, tensor=2))
    abstract = abstract_on(mesh, Config(model=CONFIG))
    sharded = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), params, abstract)
    kernel = sharded["block_0"]["mlp"]["up"]["kernel"]
    assert (mesh.size, kernel.addressable_shards[0].data.size) == (4, kernel.size // 4)
    prompts = [[10, 11, 12], [20]]
    expected = generate(params, CONFIG, prompts, KEY, GREEDY, BANNED, STOP, 12)
    assert generate(sharded, CONFIG, prompts, KEY, GREEDY, BANNED, STOP, 12) == expected


def test_of_fewer_devices_as_many_shards_as_divide_are_used():
    assert inference_mesh(MeshConfig(fsdp=3, tensor=1)).size == 3
    assert inference_mesh(MeshConfig(fsdp=64, tensor=1)).size == 8
    assert inference_mesh(MeshConfig()).size == 1
