"""Log-probabilities of prompts: scored on another thread, those that wait together in one pass."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from jaxgpt.config import ModelConfig
from jaxgpt.inference.decode import TokenOutput, padded_size
from jaxgpt.inference.score import ROWS, score
from jaxgpt.model.gpt import Params
from jaxgpt.serve.errors import ApiError
from jaxgpt.serve.prompts import Prompt


@dataclass(eq=False)
class Waiting:
    """A text that is to be scored, and the program that can: its padded length, and how many candidates it gives."""

    ids: Sequence[int]
    candidates: int
    program: tuple[int, bool]
    scored: asyncio.Future[list[TokenOutput]]


class Scorer:
    """Scores prompts, one pass at a time, so that it takes no more than that from generation."""

    def __init__(self, params: Params, config: ModelConfig, most_waiting: int) -> None:
        self._params, self._config, self._most = params, config, most_waiting
        self._waiting: deque[Waiting] = deque()
        self._work: asyncio.Task[None] | None = None

    async def score(self, prompts: Sequence[Prompt], candidates: int | None) -> list[list[TokenOutput]]:
        """Returns the tokens of each prompt with their log-probabilities, None for the first of a prompt.

        With `candidates` None they are not wanted, and 0. Raises ApiError where too many wait already.
        """
        if candidates is None:
            return [[TokenOutput(token, 0.0, []) for token in prompt.before] for prompt in prompts]
        if len(self._waiting) + len(prompts) > self._most:
            raise ApiError(429, "too many prompts wait to be scored; try again soon", code="queue_full")
        mine = [self._enqueue(prompt.ids, candidates) for prompt in prompts if len(prompt.before) > 1]
        if self._waiting and (self._work is None or self._work.done()):
            self._work = asyncio.create_task(self._score_all())
        scored = iter(await asyncio.gather(*mine))
        return [_of_prompt(prompt, next(scored) if len(prompt.before) > 1 else []) for prompt in prompts]

    def _enqueue(self, ids: Sequence[int], candidates: int) -> asyncio.Future[list[TokenOutput]]:
        program = padded_size(len(ids) - 1, self._config.context_len), candidates > 1
        scored = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(ids, candidates, program, scored))
        return scored

    async def _score_all(self) -> None:
        while self._waiting:
            program = self._waiting[0].program
            together = [waiting for waiting in self._waiting if waiting.program == program][: ROWS[-1]]
            for waiting in together:
                self._waiting.remove(waiting)
            together = [waiting for waiting in together if not waiting.scored.cancelled()]
            if not together:
                continue
            most = max(waiting.candidates for waiting in together)
            try:
                texts = [waiting.ids for waiting in together]
                scored = await run_in_threadpool(score, self._params, self._config, texts, most)
            except Exception as error:  # of the device: these prompts are lost, the next ones are not
                print(f"scoring: {type(error).__name__}: {error}", flush=True)
                failed = ApiError(500, "the model could not be run; the server's output says why")
                for waiting in together:
                    if not waiting.scored.done():
                        waiting.scored.set_exception(failed)
                continue
            for waiting, outputs in zip(together, scored, strict=True):
                if not waiting.scored.done():
                    cut = [output._replace(candidates=output.candidates[: waiting.candidates]) for output in outputs]
                    waiting.scored.set_result(cut)


def _of_prompt(prompt: Prompt, scored: Sequence[TokenOutput]) -> list[TokenOutput]:
    """Returns the outputs of the tokens that were given: the first without, the others with what they were scored."""
    first = TokenOutput(prompt.before[0], None, [])
    return [first, *scored[len(scored) - len(prompt.before) + 1 :]]
