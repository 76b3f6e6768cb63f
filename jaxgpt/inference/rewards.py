"""What an answer is worth: the corpus's own answer and no other, or what a function of the user's says."""

import math
import traceback
from collections.abc import Callable
from pathlib import Path

from jaxgpt.config import ObjectiveConfig
from jaxgpt.errors import RunError, UserError, shown
from jaxgpt.inference.eval_chat import Answer

Reward = Callable[[Answer], float]


def reward_of(config: ObjectiveConfig) -> Reward:
    """Returns the reward that a config asks for, in numbers without a unit, the length's part added.

    Raises UserError where objective.reward is neither exact nor a Python file that defines reward(prompt, answer).
    """
    value = _is_right if config.reward == "exact" else _from_file(Path(config.reward).expanduser())
    return lambda answer: value(answer) + config.length_reward * len(answer.ids)


def _is_right(answer: Answer) -> float:
    return float(answer.right)


def _from_file(path: Path) -> Reward:
    """Returns the reward that a Python file defines. The file is run: it is the user's own, named by their command."""
    if not path.is_file():
        raise UserError(
            f"objective.reward: {shown(str(path))} was given; it must be exact, or a Python file that is there"
        )
    scope: dict[str, object] = {"__name__": "reward", "__file__": str(path)}
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), scope)
    except (KeyboardInterrupt, UserError):
        raise
    except BaseException as error:  # it is a program: it may even exit
        raise UserError(f"objective.reward: {_where(path, error)}: {type(error).__name__}: {error}") from None
    function = scope.get("reward")
    if not callable(function):
        raise UserError(f"objective.reward: {path} defines no reward(prompt, answer)")

    def reward(answer: Answer) -> float:
        prompt = [dict(message) for message in answer.question.messages]
        asked = f"to the answer {shown(answer.given)} to {shown(prompt[-1]['content'])}"
        try:
            value: object = function(prompt, answer.given)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise RunError(f"{_where(path, error)}: {type(error).__name__}: {error}; {asked}") from error
        number = _number(value)
        if number is None:
            raise RunError(f"{path}: reward gave {shown(value)} {asked}; it must be a finite number")
        return number

    return reward


def _number(value: object) -> float | None:
    """Returns a finite number as Python has it, whatever library's it is; None for anything else."""
    if isinstance(value, str | bytes):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _where(path: Path, error: BaseException) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    return f"{path}, line {lines[-1]}" if lines else str(path)
