"""The third stage as a user runs it: pairs and rewards of their own, and what happens where they are not."""

import json
import re
from pathlib import Path

import pytest

from tests.commands.miniature import shell

pytestmark = pytest.mark.long

SETTINGS = """from jaxgpt.config import *
config = Config(
    data=DataConfig(corpus="{corpus}", seq_len={seq_len}, batch_size=8, cache_dir="cache"),
    objective=ObjectiveConfig(name="{name}", group_size=4, answer_tokens=8, next_token_weight=0.1),
    optimizer=OptimizerConfig(learning_rate=1e-3),
    run=RunConfig(
        init_from="runs/mini_talk", eval_every=4, log_every=1, max_steps=8, epochs=9, sample_prompt="The box?"
    ),
)
"""


@pytest.fixture(scope="module")
def place(workplace, finetuned) -> Path:
    """A folder with a run that talks, presets for what comes after it, and a reward."""
    (workplace / "dpo.py").write_text(SETTINGS.format(name="dpo", corpus="pairs.jsonl", seq_len=80))
    (workplace / "grpo.py").write_text(SETTINGS.format(name="grpo", corpus="talk.jsonl", seq_len=40))
    pairs = [
        {"prompt": f"The {thing} of Ann is red. The {thing}?", "chosen": f"The {thing} is red.", "rejected": "The cup."}
        for thing in ("ball", "box", "hat", "kite", "boat") * 12
    ]
    (workplace / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (workplace / "short.py").write_text("def reward(prompt, answer):\n    return -len(answer)\n")
    return workplace


def test_pairs_of_ones_own(place):
    out = shell(place, "finetune.py", "--config", "dpo.py", "--run.name", "preferred").stdout
    assert "pairs of them" not in out
    assert "60 pairs" not in out  # of which some are held out
    assert "nats per pair" in out
    assert "the right way round" in out
    told = shell(place, "-m", "jaxgpt", "evaluate", "runs/preferred", "--split", "valid").stdout
    assert "likelier       the better answer in" in told
    (place / "more.txt").write_text("The ball of Ann is red.\n" * 40)
    told = shell(place, "-m", "jaxgpt", "evaluate", "runs/preferred", "--text", "more.txt").stdout
    assert "windows of 48 tokens" in told  # the model's positions, where pairs have rows of 80
    assert shell(place, "-m", "jaxgpt", "chat", "runs/preferred", "--prompt", "The box?").stdout.strip()
    assert "everything is as it was saved" in shell(place, "-m", "jaxgpt", "check", "runs/preferred", "--source").stdout


def test_pairs_are_compared_with_one_checkpoint_to_the_end(place, bad):
    longer = ("finetune.py", "--config", "dpo.py", "--run.name", "compared", "--run.max-steps")
    shell(place, *longer, "4")
    record = place / "runs/compared/base.json"
    base = json.loads(record.read_text())
    assert base["run"] == "runs/mini_talk"
    record.write_text(json.dumps(base | {"digest": "0" * 64}))
    bad(*longer, "8", contains="runs/compared: it was trained beside runs/mini_talk")


def test_pairs_that_a_run_makes_are_learned_from(place):
    out = shell(
        place, "-m", "jaxgpt", "pairs", "runs/mini_talk", "own", "--from", "talk.jsonl", "--answer-tokens", "8"
    ).stdout
    assert "pairs of" in out
    assert "finetune dpo --data.corpus own --run.init-from runs/mini_talk" in out
    trained = shell(place, "finetune.py", "--config", "dpo.py", "--data.corpus", "own", "--run.name", "from-own")
    assert "the right way round" in trained.stdout
    again = shell(place, "-m", "jaxgpt", "pairs", "runs/mini_talk", "own", "--from", "talk.jsonl", expect=2)
    assert again.stderr.strip() == "error: out: own is there already; name a folder that is not"


def test_a_reward_of_ones_own(place):
    arguments = ("--config", "grpo.py", "--objective.reward", "short.py", "--run.name", "short")
    out = shell(place, "finetune.py", *arguments).stdout
    assert "held-out questions" in out
    records = [json.loads(line) for line in (place / "runs/short/metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if "reward" in record]
    assert len(steps) == 8
    assert {"reward", "right", "answer_tokens", "cut", "no_signal", "kl", "entropy", "clipped"} <= steps[0].keys()
    answers = [json.loads(line) for line in (place / "runs/short/answers.jsonl").read_text().splitlines()]
    assert {answer["step"] for answer in answers} == {0, 4, 8}
    dry = shell(place, "finetune.py", *arguments, "--run.name", "planned", "--dry-run").stdout
    assert "drawing the answers is not in memory and time" in dry
    assert re.search(r"^questions: \d+, each answered \d+ times$", dry, re.MULTILINE)
    assert "\ntokens: " not in dry
    assert not (place / "runs/planned").exists()


@pytest.mark.parametrize("config", ["mini_talk.py", "dpo.py", "grpo.py"])
def test_text_is_learned_beside(place, config):
    name = f"beside-{config.removesuffix('.py')}"
    more = [f"The {thing} of Dora is {colour}." for thing in ("key", "bell") for colour in ("red", "blue")] * 40
    (place / f"{name}.txt").write_text("\n".join(more) + "\n")
    arguments = ("--config", config, "--run.name", name, "--data.rehearse", f"{name}.txt:0.25")
    out = shell(place, "finetune.py", *arguments, "--run.max-steps", "4").stdout
    assert f"beside it, so that it is not forgotten: {name}.txt" in out
    assert "25.0% of the rows" in out
    lines = (place / "runs" / name / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert any(record.get("text_loss") for record in records)
    assert not any(record.get("text_loss") == 0 for record in records)
    measured = [record for record in records if "valid_text_loss" in record]
    assert [record["step"] for record in measured] == [0, 4]
    assert measured[1]["valid_text_loss"] < measured[0]["valid_text_loss"]
    told = shell(place, "-m", "jaxgpt", "evaluate", f"runs/{name}").stdout
    assert f"on the valid split of {name}.txt" in told
    assert "everything is as it was saved" in shell(place, "-m", "jaxgpt", "check", f"runs/{name}", "--source").stdout
    (place / f"{name}.txt").write_text("\n".join(reversed(more)) + "\n")
    changed = shell(place, "finetune.py", *arguments, "--run.max-steps", "8", expect=2).stderr
    assert f"the corpus {name}.txt has other contents than {name}.txt had" in changed


def test_a_mixed_up_reward_ends_in_one_line_and_what_was_saved_stays(place):
    (place / "later.py").write_text(
        "count = 0\ndef reward(prompt, answer):\n    global count\n    count += 1\n"
        "    return 1.0 if count < 150 else float('nan')\n"
    )
    arguments = (
        "--config",
        "grpo.py",
        "--objective.reward",
        "later.py",
        "--run.name",
        "later",
        "--run.eval-every",
        "1",
    )
    failed = shell(place, "finetune.py", *arguments, expect=1)
    (line,) = failed.stderr.strip().splitlines()
    assert line.startswith("error: later.py: reward gave nan to the answer")
    assert "everything is as it was saved" in shell(place, "-m", "jaxgpt", "check", "runs/later").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--objective.reward", "none.py"),
            "objective.reward: 'none.py' was given; it must be exact, or a Python file",
        ),
        (("--data.batch-size", "6"), "data.batch_size: 6 was given; it must be a multiple of objective.group_size (4)"),
        (("--run.init-from", "runs/mini"), "run.init_from: runs/mini is a language model that has not learned to talk"),
        (("--objective.answer-tokens", "39"), "objective.answer_tokens: 39 was given; none of the"),
        (("--objective.updates", "3"), "run.eval_every: 4 was given; it must be a multiple of objective.updates (3)"),
        (("--data.rehearse", "text.txt"), "data.rehearse: 'text.txt' was given; it must be NAME:SHARE"),
        (("--data.rehearse", "texts.txt:0.1"), "data.rehearse: 'texts.txt' is no known corpus and no path that exists"),
        (("--data.rehearse", "text.txt:0.5,talk.jsonl:0.5:0.2"), "it must be one corpus, and its share"),
        (("--data.rehearse", "wikitext-2:0.2"), "or choose another corpus"),
        (("--data.rehearse", "oasst1:0.2"), "data.rehearse: oasst1 holds conversations; what is learned beside"),
        (("--data.rehearse", "text.txt:0.95"), "data.rehearse: text.txt:0.95 was given, and leaves no row for answers"),
        (("--objective.name", "dpo"), "no prompt and no chosen and no rejected; it has 'messages'"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(place, bad, arguments, says):
    before = sorted(path.name for path in (place / "runs").iterdir())
    bad("finetune.py", "--config", "grpo.py", "--run.name", "new", *arguments, contains=says)
    assert sorted(path.name for path in (place / "runs").iterdir()) == before
