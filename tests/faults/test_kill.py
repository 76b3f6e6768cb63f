"""SIGKILL at random moments: what is started again ends bit for bit where an uninterrupted run ends."""

import pytest

from tests.faults.workplace import finish, kill_and_finish, outcome

pytestmark = pytest.mark.long

KILLS_A_RUN = 5


def test_the_same_command_twice_gives_the_same_bits(place, left_alone):
    finish(place, "pretrain", "again")
    assert outcome(place / "runs/again") == left_alone["pretrain"]


@pytest.mark.parametrize(
    ("stage", "arguments"),
    [("pretrain", ()), ("pretrain", ("--run.async-saves", "True")), ("finetune", ()), ("reward", ())],
)
def test_killed_and_resumed_equals_left_alone(place, left_alone, stage, arguments, request):
    """--kills 100 kills a hundred times; ten by default, half of them here."""
    if stage not in left_alone:
        finish(place, stage, stage)
        left_alone[stage] = outcome(place / "runs" / stage)
    runs = max(1, request.config.getoption("kills") // (2 * KILLS_A_RUN))
    killed = 0
    for seed in range(runs):
        name = f"{stage}-{seed}{''.join(arguments)}"
        killed += kill_and_finish(place, stage, name, *arguments, kills=KILLS_A_RUN, seed=seed)
        assert outcome(place / "runs" / name) == left_alone[stage], f"seed {seed}"
    print(f"{stage}: killed {killed} times in {runs} runs, bit for bit the same")
    assert killed >= runs
