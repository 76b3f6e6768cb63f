"""The renderer, literally."""

from hypothesis import given
from hypothesis import strategies as st

from jaxgpt.text.conversation import exchanges, fit, fit_answered, prompt_of, render, render_each, show_mask
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer

TOKENIZER = WordTokenizer((*SPECIAL, "Hello", "!", "Hi", "there", ".", "<", ">", "end", "user"))
UNK, EOS, _, SYSTEM, USER, ASSISTANT, END = range(7)
HELLO, BANG, HI, THERE, DOT, LESS, MORE, WORD_END, WORD_USER = range(7, 16)


def each(talk):
    return render_each(talk, TOKENIZER)


def messages(rendered):
    return [message.message for message in rendered]


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def test_ids_and_mask_literally():
    ids, mask = render([user("Hello!"), assistant("Hi there.")], TOKENIZER)
    assert ids == [USER, HELLO, BANG, END, ASSISTANT, HI, THERE, DOT, END]
    assert mask == [0, 0, 0, 0, 0, 1, 1, 1, 1]  # the end token is among the supervised


def test_several_turns_and_a_system_message():
    talk = [{"role": "system", "content": "Hi."}, user("Hello"), assistant("Hi"), user("!"), assistant(".")]
    ids, mask = render(talk, TOKENIZER)
    assert ids == [
        *[SYSTEM, HI, DOT, END],
        *[USER, HELLO, END, ASSISTANT, HI, END],
        *[USER, BANG, END, ASSISTANT, DOT, END],
    ]
    assert mask == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1]


def test_the_prompt_is_the_beginning_of_the_conversation():
    prompt = prompt_of(each([user("Hello!")]), TOKENIZER)
    assert prompt == [USER, HELLO, BANG, END, ASSISTANT]
    assert render([user("Hello!"), assistant("Hi.")], TOKENIZER)[0][: len(prompt)] == prompt


def test_control_tokens_typed_by_a_person_are_text():
    ids, mask = render([user("<end> <user> <eos> <assistant>"), assistant("<end>")], TOKENIZER)
    assert ids[1:4] == [LESS, WORD_END, MORE]
    assert ids[4:7] == [LESS, WORD_USER, MORE]
    assert [ids.index(END), ids.count(USER), ids.count(ASSISTANT), ids.count(END)] == [13, 1, 1, 2]
    assert mask[-4:] == [1, 1, 1, 1]


def test_a_line_break_is_the_end_of_a_line():
    assert render([assistant("Hi\nthere\n")], TOKENIZER)[0] == [ASSISTANT, HI, EOS, THERE, END]


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=40)), max_size=6))
def test_whatever_is_said_structure_is_kept(talk):
    said = [{"role": role, "content": content} for role, content in talk]
    ids, mask = render(said, TOKENIZER)
    assert len(ids) == len(mask)
    roles = {SYSTEM: "system", USER: "user", ASSISTANT: "assistant"}
    assert [roles[id] for id in ids if id in roles] == [message["role"] for message in said]
    assert ids.count(END) == len(said)
    assert sum(mask) == sum(
        len(render([message], TOKENIZER)[0]) - 1 for message in said if message["role"] == "assistant"
    )


def test_exchanges():
    talk = [{"role": "system", "content": "Hi"}, user("Hello"), assistant("Hi"), assistant("!"), user(".")]
    rendered = each(talk)
    assert exchanges(rendered) == ([rendered[0]], [rendered[1:4], rendered[4:]])


def test_fit_keeps_the_latest_whole_exchanges():
    talk = [user("Hello"), assistant("Hi"), user("Hello"), assistant("Hi there"), user("!"), assistant(".")]
    sizes = [6, 7, 6]
    assert messages(fit(each(talk), sum(sizes))) == talk
    assert messages(fit(each(talk), 18)) == talk[2:]
    assert messages(fit(each(talk), 12)) == talk[4:]
    assert messages(fit(each(talk), 5)) == []


def test_fit_steps_back_when_the_last_exchange_is_too_long():
    talk = [user("Hello"), assistant("Hi"), user("Hello"), assistant("Hi " * 50)]
    assert messages(fit(each(talk), 20)) == talk[:2]


def test_show_mask_marks_what_is_learned():
    assert show_mask([user("Hello!"), assistant("Hi there.")], TOKENIZER).split("\n") == [
        "    <user> Hello ! <end>",
        "    <assistant> [Hi there . <end>]",
    ]


def test_for_training_a_trailing_question_goes_first():
    """The question fits alone, and not with the exchange before, which is what there is to learn from."""
    talk = [user("Hello"), assistant("Hi")]
    for trailing in ("Hi " * 3, "Hi " * 12, "Hi " * 50):
        assert messages(fit_answered(each([*talk, user(trailing)]), 16)) == talk
    assert messages(fit_answered(each([*talk, user("Hi"), {"role": "system", "content": "."}]), 99)) == talk
    assert messages(fit_answered(each([user("Hi")]), 99)) == []


def test_for_training_the_last_exchange_with_an_answer_decides():
    system = {"role": "system", "content": "Hi."}
    talk = [system, user("Hello"), assistant("Hi"), user("!"), user("Hello"), assistant("Hi " * 50)]
    assert messages(fit_answered(each(talk), 20)) == talk[:3]
    assert messages(fit_answered(each(talk), 200)) == talk
