"""Chat's history: whole oldest exchanges go, the last message never does."""

import pytest

from jaxgpt.errors import UserError
from jaxgpt.inference import chat
from jaxgpt.text.conversation import render_each
from jaxgpt.text.corpora.tinyworld import dialogues
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer, train_word_tokenizer

TOKENIZER = WordTokenizer((*SPECIAL, "a", "b"))


def fit_history(talk, context_len):
    fitted = chat.fit_history(render_each(talk, TOKENIZER), context_len)
    return [message.message for message in fitted]


def user(size):
    return {"role": "user", "content": "a " * size}


def model(size):
    return {"role": "assistant", "content": "b " * size}


def test_history_that_fits_is_kept_whole():
    history = [user(3), model(3), user(3)]
    assert fit_history(history, 64) == history


def test_whole_oldest_exchanges_go():
    history = [user(8), model(8), user(8), model(8), user(8)]  # 20 + 20 + 10 ids; 48 are allowed
    assert fit_history(history, 56) == history[2:]
    assert fit_history(history, 32) == history[4:]


def test_a_system_message_stays():
    history = [{"role": "system", "content": "a"}, user(8), model(8), user(8), model(8), user(8)]
    assert fit_history(history, 56) == [history[0], *history[3:]]


def test_a_last_message_that_is_too_long_or_empty():
    assert fit_history([user(53)], 64)
    with pytest.raises(UserError, match=r"prompt: it is 54 tokens long; .* at most 53"):
        fit_history([user(2), model(2), user(54)], 64)
    with pytest.raises(UserError, match="prompt: it is empty"):
        fit_history([user(0)], 64)


def test_the_message_that_does_not_fit_is_named_with_its_length():
    system = {"role": "system", "content": "a " * 60}
    with pytest.raises(UserError, match=r"^system message: it is 60 tokens long; .* at most 50 beside the 1 of"):
        fit_history([system, user(1)], 64)
    with pytest.raises(UserError, match=r"^prompt: it is 60 tokens long; .* at most 53 and keeps 8"):
        fit_history([user(60)], 64)
    short = {"role": "system", "content": "a"}
    with pytest.raises(UserError, match=r"^prompt: it is 60 tokens long; .* at most 50 beside the 3 of the system"):
        fit_history([short, user(60)], 64)


def test_held_out_questions_of_the_small_world_are_asked_with_their_stories():
    """What is asked after its story has been forgotten has no right answer, and would count as wrong."""
    talks = [dialogue.messages[:-1] for split in ("valid", "test") for dialogue in dialogues(split)]
    texts = (message["content"] for talk in talks for message in talk)
    tokenizer, _ = train_word_tokenizer(texts, vocab_size=2_000)
    histories = [render_each(talk, tokenizer) for talk in talks]
    assert [chat.fit_history(history, 128) for history in histories] == histories
