"""The engine: texts side by side come out as each does alone, slots come free, and nobody waits for ever."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgpt.config import ModelConfig, Sampling
from jaxgpt.inference import decode as decode_module
from jaxgpt.inference import slots as slots_module
from jaxgpt.inference.engine import NEVER, ClosedError, Engine, QueueFullError, Request, TokenOutput
from jaxgpt.inference.generate import banned_tokens, generate
from jaxgpt.inference.slots import NO_PENALTIES, Penalties
from jaxgpt.model.gpt import GPT, logits, unembedding
from jaxgpt.ops.sampling import GREEDY
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer

TOKENIZER = WordTokenizer(SPECIAL + tuple(f"w{i}" for i in range(60 - len(SPECIAL))))
CONFIG = ModelConfig(vocab_size=60, context_len=64, embed_dim=32, num_heads=4, num_layers=2)
STOP = TOKENIZER.special.end
BANNED = banned_tokens(TOKENIZER, STOP)


@pytest.fixture(scope="module")
def params():
    initial = nn.unbox(GPT(CONFIG).init(jax.random.key(3), jnp.zeros((1, 2), jnp.int32)))["params"]
    return jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, initial)


@pytest.fixture
def engine(params):
    engine = Engine(params, CONFIG, TOKENIZER, slots=6, max_waiting=40)
    yield engine
    engine.close()


class Inbox:
    """Collects what is delivered to one text."""

    def __init__(self):
        self.words: list[TokenOutput] = []
        self.finish = None
        self.grew, self.done = threading.Event(), threading.Event()

    def __call__(self, words, finish):
        self.words += words
        self.grew.set()
        if finish:
            self.finish = finish
            self.done.set()

    def tokens(self) -> list[int]:
        assert self.done.wait(300)
        return [word.token for word in self.words]


def send(engine, *requests):
    inboxes = [Inbox() for _ in requests]
    texts = engine.submit(requests, inboxes)
    return inboxes, texts


def alone(params, prompt, count, sampling=GREEDY, seed=0):
    return generate(params, CONFIG, [prompt], jax.random.key(seed), sampling, BANNED, STOP, count)[0]


def test_twenty_texts_at_once_equal_each_alone(params, engine):
    """More than there are slots, of many lengths, some of them past the context, which is read again."""
    lengths = [1 + 5 * i if i % 2 else 16 * (1 + i // 2 % 4) for i in range(13)]
    prompts = [[7 + (i * 11 + j * (i + 3)) % 53 for j in range(length)] for i, length in enumerate(lengths)]
    counts = [100 if length % 16 == 0 else 1 + (64 - length) // 16 * 16 for length in lengths]  # few to compile
    prompts, counts = prompts + prompts[:7], [*counts, 1, 2, 3, 9, 10, 16, 17]
    inboxes, _ = send(engine, *(Request(p, STOP, n) for p, n in zip(prompts, counts, strict=True)))
    for inbox, prompt, count in zip(inboxes, prompts, counts, strict=True):
        expected = alone(params, prompt, count)
        assert inbox.tokens() == expected
        assert inbox.finish == ("length" if len(expected) == count else "stop")


def test_each_row_draws_by_its_own_settings(params, engine):
    """Seeds, temperatures and shares side by side: each text is the one that generate draws with them."""
    settings = [Sampling(0.7, top_p=0.9), Sampling(1.3, top_p=0.5), Sampling(1.0, top_p=None), GREEDY]
    requests = [Request([10, 11], STOP, 30, s.temperature, s.top_p or 1.0, i) for i, s in enumerate(settings)]
    inboxes, _ = send(engine, *requests)
    for i, (inbox, sampling) in enumerate(zip(inboxes, settings, strict=True)):
        assert inbox.tokens() == alone(params, [10, 11], 30, sampling, seed=i)


def test_the_stop_token_ends_a_text_and_only_its_own(params, engine):
    """The end of a message ends a reply; a line's end does not, but it ends a line."""
    loud = {
        **params,
        "token_embedding": params["token_embedding"].at[jnp.array([STOP, TOKENIZER.special.eos])].mul(50.0),
    }
    other = Engine(loud, CONFIG, TOKENIZER, slots=6)
    requests = [Request([10 + i], stop, 40, 1.0, 1.0, i) for i in range(4) for stop in (STOP, TOKENIZER.special.eos)]
    inboxes, _ = send(other, *requests)
    out = [set(inbox.tokens()) for inbox in inboxes]
    other.close()
    special = set(range(len(SPECIAL)))
    assert all(words & special <= {TOKENIZER.special.eos} for words in out[::2])
    assert all(not words & special for words in out[1::2])
    assert "stop" in {inbox.finish for inbox in inboxes}


def _scores(params, tokens, length):
    hidden, _ = GPT(CONFIG).apply({"params": params}, tokens[None])
    return logits(unembedding(params), hidden[0, length - 1], 60)[:60]


def test_candidates_are_the_models_probabilities(params, engine):
    (inbox,), _ = send(engine, Request([10, 11, 12], STOP, 3, candidates=4))
    text = [10, 11, 12]
    scores_after = jax.jit(lambda tokens, length: _scores(params, tokens, length))
    for word, token in zip(inbox.words, inbox.tokens(), strict=True):
        scores = scores_after(jnp.array(text + [0] * (8 - len(text))), len(text))
        expected = jax.nn.log_softmax(jnp.where(BANNED, -jnp.inf, scores))
        assert [id for id, _ in word.candidates] == np.argsort(-expected)[:4].tolist()
        np.testing.assert_allclose([p for _, p in word.candidates], np.sort(expected)[::-1][:4], atol=1e-4)
        np.testing.assert_allclose(word.logprob, expected[token], atol=1e-4)
        text.append(token)


def with_penalties(params, prompt, count, penalties) -> list[int]:
    """Writes greedily by the definition: all logits of the text each time, changed by what is in it."""
    scores_after = jax.jit(lambda tokens, length: _scores(params, tokens, length))
    text, bias_V = list(prompt), np.zeros(60)
    bias_V[list(penalties.bias)] = list(penalties.bias.values())
    for _ in range(count):
        scores_V = np.array(scores_after(jnp.array(text + [0] * (64 - len(text))), len(text)))
        seen = list(set(text[1:]))  # all but bos
        factor = np.where(scores_V[seen] > 0, 1 / penalties.repetition, penalties.repetition)
        scores_V[seen] *= factor
        written_V = np.bincount(text[len(prompt) :], minlength=60)
        scores_V += bias_V - penalties.frequency * written_V - penalties.presence * (written_V > 0)
        text.append(int(np.argmax(np.where(banned_tokens(TOKENIZER, None), -np.inf, scores_V))))
    return text[len(prompt) :]


@pytest.mark.long
def test_penalties_are_their_definition_and_change_no_other_text(params, engine):
    kinds = [Penalties(1.5), Penalties(frequency=0.7), Penalties(presence=1.5), Penalties(bias={20: -100, 30: 4.0})]
    kinds += [Penalties(0.8, -0.5, 0.5, {31: 5.0}), NO_PENALTIES]
    prompt = [TOKENIZER.special.bos, 20, 21, 22]
    inboxes, _ = send(engine, *(Request(prompt, NEVER, 20, penalties=kind) for kind in kinds))
    texts = [inbox.tokens() for inbox in inboxes]
    assert texts == [with_penalties(params, prompt, 20, kind) for kind in kinds]
    assert len({tuple(text) for text in texts}) == len(kinds)
    (inbox,), _ = send(engine, Request(prompt, NEVER, 20))
    assert inbox.tokens() == texts[-1]


def test_what_a_text_begins_with_counts_as_its_own(engine):
    """Greedily, a text that is given again goes on as it did, whatever its penalties count."""
    kinds = [Penalties(frequency=0.7), Penalties(presence=1.5), Penalties(1.5)]
    inboxes, _ = send(engine, *(Request([10, 11, 12], NEVER, 20, penalties=kind) for kind in kinds))
    texts = [inbox.tokens() for inbox in inboxes]
    again = [
        Request([10, 11, 12, *text[:8]], NEVER, 12, penalties=kind, given=8)
        for kind, text in zip(kinds, texts, strict=True)
    ]
    inboxes, _ = send(engine, *again)
    assert [inbox.tokens() for inbox in inboxes] == [text[8:] for text in texts]


def test_special_tokens_come_in_no_text_but_to_end_it(engine):
    requests = [Request([10 + i], stop, 40, 2.0, 1.0, i) for i in range(3) for stop in (STOP, NEVER)]
    inboxes, _ = send(engine, *requests)
    written = {token for inbox in inboxes for token in inbox.tokens()}
    assert not written & (set(TOKENIZER.special.ids) - {TOKENIZER.special.newline})


def test_cancelled_texts_free_their_slots(engine):
    """Six slots are taken by texts without end and six more wait: once they are let go, a new one is served."""
    endless = Request([10], NEVER, 10**9, 1.0)
    inboxes, texts = send(engine, *[endless] * 12)
    assert all(inbox.grew.wait(60) for inbox in inboxes[:6])
    assert not any(inbox.grew.is_set() for inbox in inboxes[6:])
    for text in texts:
        engine.cancel(text)
    (inbox,), _ = send(engine, Request([10], STOP, 5))
    assert len(inbox.tokens()) == 5
    assert engine.load() == (0, 0)


def test_a_full_queue_refuses_all_of_a_request(engine):
    endless = Request([10], NEVER, 10**9, 1.0)
    inboxes, texts = send(engine, *[endless] * 6)
    assert all(inbox.grew.wait(60) for inbox in inboxes)
    _, more = send(engine, *[endless] * 38)
    with pytest.raises(QueueFullError):
        send(engine, *[endless] * 3)
    assert engine.load() == (6, 38)
    for text in (*texts, *more):
        engine.cancel(text)


def test_closing_ends_what_runs_and_takes_no_more(params):
    engine = Engine(params, CONFIG, TOKENIZER, slots=6)
    inboxes, _ = send(engine, *[Request([10], NEVER, 10**9, 1.0)] * 7)
    assert inboxes[0].grew.wait(60)
    engine.close()
    assert {inbox.finish for inbox in inboxes} == {"closed"}
    with pytest.raises(ClosedError):
        send(engine, Request([10], STOP, 5))


def test_an_idle_engine_waits_until_it_is_asked(engine, monkeypatch):
    """It does not look again and again: it waits without a limit, and is woken."""
    idle, wait = threading.Event(), engine._changed.wait
    monkeypatch.setattr(engine._changed, "wait", lambda: (idle.set(), wait())[1])
    for _ in range(2):
        (inbox,), _ = send(engine, Request([10], STOP, 5))
        inbox.tokens()
        assert idle.wait(60)
        idle.clear()


def test_a_failing_device_loses_its_texts_and_no_others(engine, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(slots_module, "decode", fail)
        (inbox,), _ = send(engine, Request([10], STOP, 5))
        assert inbox.done.wait(60)
    assert inbox.finish == "failed"
    assert "engine: RuntimeError: out of memory" in capsys.readouterr().out
    (inbox,), _ = send(engine, Request([10], STOP, 5))
    assert len(inbox.tokens()) == 5


@pytest.mark.long
def test_everything_is_compiled_beforehand(params):
    """Also for a model that likes to end at once."""
    loud = {**params, "token_embedding": params["token_embedding"].at[TOKENIZER.special.eos].mul(50.0)}
    engine = Engine(loud, CONFIG, TOKENIZER, slots=7)
    engine.compile()
    compiled = decode_module.prefill._cache_size(), decode_module.decode._cache_size()
    requests = [Request([10] * (1 + 5 * i), STOP, 40, i / 10, 0.5 + i / 30, i, i % 3) for i in range(12)]
    for inbox in send(engine, *requests)[0]:
        inbox.tokens()
    engine.close()
    assert (decode_module.prefill._cache_size(), decode_module.decode._cache_size()) == compiled
