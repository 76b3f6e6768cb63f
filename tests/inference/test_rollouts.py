"""Rollouts: what is drawn becomes rows that count what was drawn, and advantages that a group shares out."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgpt.config import Config, DataConfig, ModelConfig, ObjectiveConfig, RunConfig
from jaxgpt.data.batch import BRANCHES, Batch
from jaxgpt.errors import RunError, UserError
from jaxgpt.inference.eval_chat import Answer, Question, answer_all, questions
from jaxgpt.inference.pairs import draw_answers, pairs_of
from jaxgpt.inference.rewards import reward_of
from jaxgpt.inference.rollouts import write_batch
from jaxgpt.model.gpt import GPT
from jaxgpt.ops.sampling import GREEDY
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer
from jaxgpt.training.objectives import log_probs
from jaxgpt.training.rollouts import FEW, warnings

WORDS = tuple(f"w{i}" for i in range(20 - len(SPECIAL)))
TOKENIZER = WordTokenizer(SPECIAL + WORDS)
S = 4  # answers to a question
CONFIG = Config(
    ModelConfig(vocab_size=20, context_len=32, embed_dim=16, num_heads=2, num_layers=1, dropout=0.0),
    DataConfig(seq_len=32, batch_size=8),
    objective=ObjectiveConfig(name="grpo", group_size=S, answer_tokens=6),
    run=RunConfig(init_from="a run", epochs=2),
)


def asked(number: int) -> Question:
    talk = [{"role": "user", "content": f"w{number} w{number + 1}"}, {"role": "assistant", "content": "w1"}]
    (question,) = questions([talk], TOKENIZER, 32, ["kind"])
    return question


QUESTIONS = [asked(number) for number in range(6)]


@pytest.fixture(scope="module")
def params():
    initial = nn.unbox(GPT(CONFIG.model).init(jax.random.key(3), jnp.zeros((1, 2), jnp.int32)))["params"]
    return jax.tree.map(lambda x: 2 * x if x.ndim > 1 else x, initial)


def by_words(answer: Answer) -> float:
    return float(sum(answer.ids) % 5)


@pytest.fixture(scope="module")
def written(params) -> Batch:
    batch, told = write_batch(params, CONFIG, TOKENIZER, QUESTIONS, by_words, 0, CONFIG.data.batch_size)
    assert told["no_signal"] < 1
    return batch


def test_the_same_rollout_is_drawn_again_and_another_is_not(params, written):
    again, _ = write_batch(params, CONFIG, TOKENIZER, QUESTIONS, by_words, 0, CONFIG.data.batch_size)
    other, _ = write_batch(params, CONFIG, TOKENIZER, QUESTIONS, by_words, 1, CONFIG.data.batch_size)
    assert np.array_equal(written.targets, again.targets)
    assert np.array_equal(written.advantages, again.advantages)
    assert not np.array_equal(written.targets, other.targets)


def answers_in(batch: Batch) -> list[tuple[tuple[int, ...], Batch]]:
    """Returns (its question but for the last token, what was packed) of each answer."""
    found = []
    for row, segments_T in enumerate(batch.segments):
        for segment in sorted({*segments_T[segments_T % BRANCHES > 0]}):
            own_T, question_T = segments_T == segment, segments_T == segment - segment % BRANCHES
            answer = jax.tree.map(lambda x_BT, row=row, own_T=own_T: x_BT[row, own_T], batch)
            found.append((tuple(batch.tokens[row, question_T]), answer))
    return found


def test_what_counts_is_the_answer_and_its_end(written):
    for question, (tokens, targets, weights, _, positions, *_) in answers_in(written):
        assert weights.all()
        assert np.array_equal(positions, len(question) + np.arange(len(tokens)))
        assert (tokens[0],) == TOKENIZER.special.assistant  # the token after which the answer begins
        assert len(targets) == 6 or targets[-1] == TOKENIZER.special.end
        assert TOKENIZER.special.end not in targets[:-1]
        assert np.array_equal(tokens[1:], targets[:-1])
        assert [*question, tokens[0]] in [asked.ids for asked in QUESTIONS]
    assert not written.weights[written.segments % BRANCHES == 0].any()


def test_every_answer_is_counted_once_and_a_group_shares_its_advantages_out(written):
    answers = answers_in(written)
    times = [answer.weights.max() for _, answer in answers]
    assert sum(times) == 8  # two questions, four answers each
    assert sum(n * answer.advantages[0] for n, (_, answer) in zip(times, answers, strict=True)) == pytest.approx(0)
    different = {(question, tuple(answer.targets)) for question, answer in answers}
    assert len(different) == len(answers)  # equal ones are one


@pytest.mark.long
def test_answers_that_share_their_question_are_as_likely_as_each_alone(params, written):
    told = answers_in(written._replace(reference=np.asarray(log_probs(params, written, CONFIG))))
    assert len(told) > 2
    for question, answer in told:
        tokens = np.array([[*question, *answer.tokens]])
        targets, weights = np.zeros_like(tokens), np.zeros(tokens.shape, np.float32)
        targets[0, len(question) :], weights[0, len(question) :] = answer.targets, 1
        alone = log_probs(params, Batch(tokens, targets, weights), CONFIG)[0, len(question) :]
        np.testing.assert_allclose(answer.reference, alone, atol=1e-5)


def test_a_group_that_fits_in_no_row_reads_its_question_again(params):
    short = dataclasses.replace(CONFIG, data=DataConfig(seq_len=12, batch_size=8))
    batch, _ = write_batch(params, short, TOKENIZER, QUESTIONS, by_words, 0, CONFIG.data.batch_size)
    assert sum(answer.weights.max() for _, answer in answers_in(batch)) == 8
    assert len({question for question, _ in answers_in(batch)}) == 2
    read = {(row, segment) for row, of_row in enumerate(batch.segments) for segment in of_row if segment}
    assert sum(segment % BRANCHES == 0 for _, segment in read) > 2


def test_groups_that_teach_come_first(params):
    def one_question_alone(answer: Answer) -> float:
        return by_words(answer) if answer.question == QUESTIONS[4] else 1.0

    config = dataclasses.replace(CONFIG, objective=dataclasses.replace(CONFIG.objective, oversample=3))
    batch, told = write_batch(params, config, TOKENIZER, QUESTIONS, one_question_alone, 0, CONFIG.data.batch_size)
    assert told["no_signal"] == pytest.approx(5 / 6)
    times: dict[tuple[int, ...], float] = {}
    one = tuple(QUESTIONS[4].ids[:-1])
    for question, answer in answers_in(batch):
        times[question] = times.get(question, 0) + answer.weights.max()
        assert answer.advantages.any() == (question == one)
    assert set(times.values()) == {S}  # a group is there whole or not at all
    assert one in times


def test_copies_are_drawn_as_single_ones_are(params):
    model = CONFIG.model
    together = answer_all(params, model, TOKENIZER, QUESTIONS[:3], GREEDY, jax.random.key(0), 6, copies=2)
    alone = answer_all(params, model, TOKENIZER, QUESTIONS[:3], GREEDY, jax.random.key(0), 6)
    assert [answer.ids for answer in together[::2]] == [answer.ids for answer in alone]
    assert [answer.ids for answer in together[1::2]] == [answer.ids for answer in alone]


def test_pairs_have_the_right_answer_and_different_wrong_ones(params):
    objective = ObjectiveConfig(group_size=8, answer_tokens=6)
    answers = draw_answers(params, CONFIG.model, TOKENIZER, QUESTIONS, objective, jax.random.key(0), "train")
    pairs = list(pairs_of(answers))
    assert pairs
    assert all(pair.chosen == "w1" != pair.rejected for pair in pairs)
    assert len({(pair.prompt[-1]["content"], pair.rejected) for pair in pairs}) == len(pairs)
    assert pairs[0].prompt[-1]["role"] == "user"


# What an answer is worth


def answered(given: str, ended: bool = True) -> Answer:
    return Answer(QUESTIONS[0], given, TOKENIZER.encode(given), ended)


def test_exact_is_the_whole_answer_and_length_is_added():
    reward = reward_of(ObjectiveConfig(length_reward=-0.25))
    assert [reward(answered(text)) for text in ("w1", "w1 w1", "w2")] == [0.75, -0.5, -0.25]
    assert reward(answered("w1", ended=False)) == -0.25


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\ndef reward(prompt, answer):\n    return np.float32(len(prompt) + len(answer))\n"
    )
    assert reward_of(ObjectiveConfig(reward=str(file)))(answered("w1 w2")) == 6.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, r"'.*mine\.py' was given; it must be exact, or a Python file that is there"),
        ("def reward(:", r"objective\.reward: .*mine\.py, line 1: SyntaxError"),
        ("x = 1\n1 / 0", r"objective\.reward: .*mine\.py, line 2: ZeroDivisionError"),
        ("raise SystemExit", r"objective\.reward: .*mine\.py, line 1: SystemExit"),
        ("reward = 1", r"mine\.py defines no reward\(prompt, answer\)"),
    ],
)
def test_a_file_that_is_no_reward(tmp_path, text, says):
    file: Path = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=says):
        reward_of(ObjectiveConfig(reward=str(file)))


@pytest.mark.parametrize("given", ["'1.0'", "float('nan')", "float('inf')", "None", "[1]"])
def test_a_reward_that_is_no_number_names_the_question(tmp_path, given):
    file = tmp_path / "mine.py"
    file.write_text(f"def reward(prompt, answer):\n    return {given}\n")
    with pytest.raises(RunError, match=r"mine\.py: reward gave .* to the answer 'w2' to 'w0 w1'; it must be a finite"):
        reward_of(ObjectiveConfig(reward=str(file)))(answered("w2"))


def test_a_reward_that_raises_names_its_line_and_the_question(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def reward(prompt, answer):\n    return {}[answer]\n")
    with pytest.raises(RunError, match=r"mine\.py, line 2: KeyError: 'w2'; to the answer 'w2' to 'w0 w1'"):
        reward_of(ObjectiveConfig(reward=str(file)))(answered("w2"))


# What goes wrong


def records(**last: float) -> list[dict[str, float]]:
    first = {"entropy": 0.5, "answer_tokens": 6.0, "cut": 0.0, "no_signal": 0.5}
    return [first] * FEW + [first | last] * FEW


@pytest.mark.parametrize(
    ("last", "says"),
    [
        ({"entropy": 0.01}, "entropy collapsed: 0.0100 nats per token, 0.5000 at first"),
        ({"answer_tokens": 14.0}, "answers run away in length: 14.0 tokens, 6.0 at first"),
        ({"cut": 0.8}, "most answers are cut at objective.answer_tokens = 6"),
        ({"no_signal": 1.0}, f"nothing is learned: for {FEW} steps all answers to a question were worth the same"),
    ],
)
def test_what_goes_wrong_is_told(last, says):
    (told,) = warnings(records(**last), CONFIG)
    assert says in told


def test_steps_without_answers_are_left_out_of_what_goes_wrong():
    """They are NaN when they come, and null once they are read again."""
    found = records(entropy=0.01)
    for place, nothing in ((3, float("nan")), (-1, None)):
        found[place] = found[place] | {"entropy": nothing}
    (told,) = warnings(found, CONFIG)
    assert "entropy collapsed: 0.0100 nats per token, 0.5000 at first" in told
    assert warnings([*found[:FEW], *[found[-1]] * FEW], CONFIG) == []


def test_nothing_is_told_while_all_is_well():
    assert warnings(records(entropy=0.2, answer_tokens=8.0), CONFIG) == []
    assert warnings(records(entropy=0.01)[: FEW + 1], CONFIG) == []
