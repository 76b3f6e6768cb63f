"""Log-probabilities of prompts: scored on another thread, those that wait together in one pass."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool

from jaxgpt.config import ModelConfig
from jaxgpt.inference.decode import padded
from jaxgpt.inference.engine import Request, state_of
from jaxgpt.inference.generate import banned_tokens
from jaxgpt.inference.score import ROWS, Scored, score
from jaxgpt.inference.slots import SequenceState, padded_size
from jaxgpt.model.gpt import Params
from jaxgpt.serve.errors import ApiError
from jaxgpt.text.tokenizer import Tokenizer


class Waiting(NamedTuple):
    """A text that is to be scored, and the program that can: its padded length, and whether it gives candidates."""

    text: SequenceState
    program: tuple[int, bool]
    scored: asyncio.Future[Scored]


class Scorer:
    """Scores prompts, one pass at a time, so that it takes no more than that from generation."""

    def __init__(self, params: Params, config: ModelConfig, tokenizer: Tokenizer, most_waiting: int) -> None:
        self._params, self._config, self._most = params, config, most_waiting
        self._banned_V = padded(banned_tokens(tokenizer, None), config)
        self._waiting: deque[Waiting] = deque()
        self._work: asyncio.Task[None] | None = None

    async def score(self, requests: Sequence[Request]) -> list[Scored]:
        """Returns each prompt scored, with the token that follows it; raises ApiError where too many wait already."""
        if len(self._waiting) + len(requests) > self._most:
            raise ApiError(429, "too many prompts wait to be scored; try again soon", code="queue_full")
        mine = list(map(self._enqueue, requests))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._score_all())
        return await asyncio.gather(*mine)

    def _enqueue(self, request: Request) -> asyncio.Future[Scored]:
        text = state_of(request)
        program = padded_size(len(text.tokens), self._config.context_len), text.candidates > 1
        scored = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(text, program, scored))
        return scored

    async def _score_all(self) -> None:
        while self._waiting:
            program = self._waiting[0].program
            together = [waiting for waiting in self._waiting if waiting.program == program][: ROWS[-1]]
            for waiting in together:
                self._waiting.remove(waiting)
            texts = [waiting.text for waiting in together]
            try:
                scored = await run_in_threadpool(score, self._params, self._config, self._banned_V, texts)
            except Exception as error:  # of the device: these prompts are lost, the next ones are not
                print(f"scoring: {type(error).__name__}: {error}", flush=True)
                for waiting in together:
                    if not waiting.scored.done():
                        waiting.scored.set_exception(ApiError(500, "the model could not be run; its output says why"))
                continue
            for waiting, result in zip(together, scored, strict=True):
                if not waiting.scored.done():
                    waiting.scored.set_result(result)
