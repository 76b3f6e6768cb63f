"""A run under lm-evaluation-harness (Gao et al. 2021): its tasks score texts, or let the model write, in this process.

The same tasks run against `python -m jaxgpt serve` through the harness's local-completions, with the same results.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, cast

from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]  # the extra `eval`
from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]
from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # pyright: ignore[reportMissingImports]

from jaxgpt.errors import RunError, UserError, shown
from jaxgpt.inference.decode import padded
from jaxgpt.inference.engine import NEVER, Engine, Finish, Request
from jaxgpt.inference.generate import banned_tokens, in_full_precision, text_stop
from jaxgpt.inference.score import score_sorted
from jaxgpt.inference.slots import TokenOutput
from jaxgpt.inference.writer import Writer
from jaxgpt.run.evaluations import Evaluation
from jaxgpt.run.load import Trained

MOST_NEW_TOKENS = 256  # the harness's default
SLOTS = 20  # texts that are written at once

Loglikelihood = tuple[float, bool]
"""Log-probability of a continuation, and whether each of its tokens is the likeliest."""


def evaluate_tasks(trained: Trained, tasks: Sequence[str]) -> list[Evaluation]:
    """Returns what the harness measures in tasks: names of its own, or files NAME.yaml.

    Raises UserError for a task that is not there, cannot be read, or asks for what the decoder does not do.
    """
    manager = TaskManager(include_path=sorted({str(Path(task).parent) for task in tasks if task.endswith(".yaml")}))
    names = [Path(task).stem if task.endswith(".yaml") else task for task in tasks]
    for task, name in zip(tasks, names, strict=True):
        if name not in manager.all_tasks:
            raise UserError(f"tasks: {shown(task)} is not there; lm-eval ls tasks lists them, or give a file NAME.yaml")
    try:
        os.environ["DISABLE_MULTIPROC"] = "1"  # its standard errors come from forks otherwise: JAX has threads
        found = simple_evaluate(model=RunModel(trained), tasks=names, task_manager=manager, log_samples=False)
    except (OSError, ValueError, KeyError) as error:  # the data, in most cases: there is no network, or no such file
        raise RunError(f"tasks: {', '.join(tasks)} could not be run ({type(error).__name__}: {error})") from error
    return [
        Evaluation(
            task=name,
            step=trained.step,
            metrics=_metrics(of_task),
            examples=found["n-samples"].get(name, {}).get("effective"),
            num_fewshot=found["n-shot"].get(name),
            version=found["versions"].get(name),
            harness=f"lm-evaluation-harness {metadata.version('lm_eval')}",
        )
        for name, of_task in found["results"].items()
    ]


def _metrics(of_task: dict[str, Any]) -> dict[str, float | None]:
    """Returns a task's metrics by name; one that has passed a filter of the task carries the filter's name."""
    metrics = {key.removesuffix(",none"): value for key, value in of_task.items() if "," in key}
    return {key: float(value) for key, value in metrics.items() if isinstance(value, int | float)}


class RunModel(TemplateLM):
    """A run as the harness asks a model; a text follows bos, as everywhere here."""

    backend = "causal"

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self._params, self._config = trained.params, in_full_precision(trained.config.model)
        self._tokenizer = trained.run.tokenizer
        self._banned_V = padded(banned_tokens(self._tokenizer, self._tokenizer.special.eos), self._config)
        stop_id = text_stop(self._tokenizer, trained.run.data.ends_with_line(trained.config.data))
        self._stop_id = NEVER if stop_id is None else stop_id
        self.max_length = self._config.context_len - 1
        """Tokens of a text beside bos, as the server takes them."""

    @property
    def eot_token_id(self) -> int:
        return self._tokenizer.special.eos

    @property
    def prefix_token_id(self) -> int:
        return self._tokenizer.special.bos

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Returns the tokens of a text."""
        return self._tokenizer.encode(string)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[Loglikelihood]:
        """Returns the log-likelihood of each continuation; of a long context as much is read as leaves room for it."""
        bos, most = self._tokenizer.special.bos, self.max_length
        texts: list[list[int]] = []
        for _key, context, continuation in requests:
            if len(continuation) > most:
                raise UserError(f"tasks: a continuation has {len(continuation)} tokens; the model sees {most}")
            text = [*context, *continuation][-most:]
            has_bos = text[:1] == [bos] and len(text) > len(continuation)  # which may begin with a line break itself
            texts.append(text if has_bos else [bos, *text])
        found = [(0.0, True)] * len(requests)
        for number, outputs in score_sorted(self._params, self._config, self._banned_V, texts):
            found[number] = _summed(outputs[len(outputs) - len(requests[number][2]) :])
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Returns the log-likelihood of each text, in windows of the context one after the other."""
        windows: list[tuple[None, list[int], list[int]]] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            (text,) = request.args
            rolling = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 1,
                context_len=1,
            )
            for context, continuation in map(make_disjoint_window, rolling):
                windows.append((None, context, continuation))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += logprob
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Returns what the model writes after each context, up to the first of the texts that end it."""
        ended: SimpleQueue[tuple[int, Finish]] = SimpleQueue()
        asked: list[Request] = []
        texts: list[Text] = []
        for number, request in enumerate(requests):
            context, settings = request.args[0], _settings(request.args[1])
            room = self.max_length - settings.max_tokens
            ids = self.tok_encode(context)[-(room if room > 0 else self.max_length // 2) :]
            prompt = [self._tokenizer.special.bos, *ids]
            drawn = settings.temperature, settings.top_p, number
            asked.append(Request(prompt, self._stop_id, settings.max_tokens, *drawn))
            texts.append(Text(Writer(self._tokenizer, ids, settings.until), partial(_put, ended, number)))
        engine = Engine(self._params, self._config, self._tokenizer, SLOTS, max_waiting=len(asked))
        try:
            generations = engine.submit(asked, texts)
            for _ in texts:
                number, finish = ended.get()
                if finish == "failed":
                    raise RunError("tasks: the model could not be run; what the engine printed says why")
                engine.cancel(generations[number])
        finally:
            engine.close()
        return [text.text for text in texts]


def _put(ended: SimpleQueue[tuple[int, Finish]], number: int, finish: Finish) -> None:
    ended.put((number, finish))


class Text:
    """One text as the engine delivers it; `end` is called once, with why it ended."""

    def __init__(self, writer: Writer, end: Callable[[Finish], None]) -> None:
        self._writer, self._end, self._ended = writer, end, False
        self.text = ""

    def __call__(self, outputs: list[TokenOutput], finish: Finish | None) -> None:
        if self._ended:
            return
        pieces, stopped = self._writer.write(outputs)
        if finish and not stopped:
            pieces += self._writer.rest()
        self.text += "".join(piece.text for piece in pieces)
        if stopped or finish:
            self._ended = True
            self._end("stop" if stopped else cast(Finish, finish))


class Settings(NamedTuple):
    """How a task wants a text written."""

    max_tokens: int
    temperature: float
    top_p: float
    until: list[str]


def _settings(given: dict[str, Any]) -> Settings:
    """Returns a task's generation settings, greedy unless they name a temperature; raises UserError for other ones."""
    rest = dict(given)
    until = rest.pop("until", None) or []
    most = [rest.pop(name) for name in ("max_tokens", "max_gen_toks", "max_new_tokens") if name in rest]
    draws = rest.pop("do_sample", None)
    temperature = float(rest.pop("temperature", 1.0 if draws else 0.0))
    top_p = float(rest.pop("top_p", 1.0))
    if draws is False:
        temperature = 0.0
    if rest:
        raise UserError(f"tasks: a task asks for {', '.join(sorted(rest))}, which this decoder does not have")
    stops = [until] if isinstance(until, str) else list(until)
    return Settings(most[0] if most else MOST_NEW_TOKENS, temperature, top_p, [text for text in stops if text])


def _summed(outputs: Sequence[TokenOutput]) -> Loglikelihood:
    """Returns the log-likelihood of tokens that were scored with the likeliest in their place."""
    logprobs = [cast(float, output.logprob) for output in outputs]
    return sum(logprobs), all(output.logprob == output.candidates[0][1] for output in outputs)
