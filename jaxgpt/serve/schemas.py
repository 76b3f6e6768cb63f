"""What may be asked: OpenAI's requests, checked; what this server cannot do is refused rather than ignored."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from jaxgpt.inference.decode import CANDIDATES
from jaxgpt.inference.slots import Penalties

MAX_TOKENS = 4096
MAX_WRITTEN = 2**15  # a text may be gone on with many times
MAX_STOPS, MAX_STOP_CHARACTERS = 16, 256
MAX_BIASES = 1024

# Parameters of OpenAI's API that ask for nothing more when they have one of these values (or null).
NEUTRAL: dict[str, tuple[object, ...]] = {
    "best_of": (1,),
    "functions": ([],),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("auto", "none"),
    "tools": ([],),
}
# They say something about the caller, not about what to write.
ABOUT_THE_CALLER = ("metadata", "prompt_cache_key", "safety_identifier", "user")


class Checked(BaseModel):
    """No field that is not known, and none of another type than it says."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


AT_MOST = AfterValidator(lambda tokens: min(tokens, MAX_TOKENS))
"""More tokens than this server writes are as many as it does, as with other servers."""
TokenLimit = Annotated[int, Field(ge=1), AT_MOST]


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start} is half of a surrogate pair") from None
    return text


Text = Annotated[str, AfterValidator(_whole)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(max_length=MAX_TOKENS)]


class StreamOptions(Checked):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Asked(Checked, ABC):
    """What both kinds of request have in common."""

    model: str
    max_tokens: TokenLimit | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    """-1 and 0 keep all tokens, as with vLLM."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MAX_BIASES)] | None = (
        None
    )
    """What is added to the scores of tokens, by id."""
    n: Annotated[int, Field(ge=1, le=1024)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    written: Annotated[list[TokenId], Field(max_length=MAX_WRITTEN)] = []
    """The `token_ids` that the answer begins with, to go on from there; an extension."""

    @model_validator(mode="before")
    @classmethod
    def _only_what_can_be_done(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        rest = {}
        for name, value in given.items():
            if name in ABOUT_THE_CALLER or (name in NEUTRAL and value is None):
                continue
            if name not in NEUTRAL:
                rest[name] = value
            elif value not in NEUTRAL[name]:
                raise ValueError(f"{name}: this server does not support it")
        return rest

    @field_validator("stop")
    @classmethod
    def _stops_in_bounds(cls, stop: str | list[str] | None) -> str | list[str] | None:
        stops = _as_list(stop)
        if len(stops) > MAX_STOPS or any(len(text) > MAX_STOP_CHARACTERS for text in stops):
            raise ValueError(f"at most {MAX_STOPS} texts of up to {MAX_STOP_CHARACTERS} characters")
        return stop

    @field_validator("logit_bias")
    @classmethod
    def _biases_of_tokens(cls, bias: dict[str, float] | None) -> dict[str, float] | None:
        if not all(id.isascii() and id.isdigit() and len(id) < 10 for id in bias or {}):
            raise ValueError("its keys are ids of tokens, from 0")
        return bias

    @property
    def penalties(self) -> Penalties:
        """How the text's own tokens change what comes next."""
        bias = {int(id): value for id, value in (self.logit_bias or {}).items() if value}
        repetition = 1.0 if self.repetition_penalty is None else self.repetition_penalty
        return Penalties(repetition, self.frequency_penalty or 0.0, self.presence_penalty or 0.0, bias)

    @property
    def stops(self) -> list[str]:
        """Texts that end the writing; an empty one asks for none."""
        return [text for text in _as_list(self.stop) if text]

    @property
    @abstractmethod
    def candidates(self) -> int | None:
        """How many likeliest tokens to tell with each token; None where no log-probabilities are wanted."""

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class TextPart(Checked):
    """A piece of a message; there are no other kinds here than text."""

    type: Literal["text"]
    text: Text


class ChatMessage(Checked):
    """A message; the fields that stand empty are those of an answer that a client sends back as history."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart] | None = None
    name: str | None = None
    refusal: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _only_text(cls, content: Any) -> Any:
        for part in content if isinstance(content, list) else []:
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(kind, str) and kind != "text":
                raise ValueError(f"this model reads text, no parts of type {kind[:40]!r}")
        return content

    @model_validator(mode="after")
    def _says_something(self) -> "ChatMessage":
        if self.content is None and self.role != "assistant":
            raise ValueError(f"content: it is missing in a message of role {self.role}")
        return self

    def plain(self) -> dict[str, str]:
        """Returns the message as the renderer takes it; an assistant may have said nothing."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or [])
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class ChatRequest(Asked):
    """POST /v1/chat/completions"""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: TokenLimit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=CANDIDATES)] | None = None

    @model_validator(mode="after")
    def _candidates_need_logprobs(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs: it needs logprobs to be true")
        return self

    @property
    def candidates(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(Asked):
    """POST /v1/completions"""

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1)]
    )
    max_tokens: Annotated[int, Field(ge=0), AT_MOST] | None = None
    """With 0 nothing is written: with `echo` and `logprobs` the prompt is scored."""
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=CANDIDATES)] | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _not_empty(cls, prompt: Any) -> Any:
        if isinstance(prompt, list) and (not prompt or [] in prompt):
            raise ValueError("it is empty")
        return prompt

    @property
    def candidates(self) -> int | None:
        return self.logprobs

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts, each a text or its tokens."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        return [cast(list[int], given)] if isinstance(given[0], int) else cast(list[str | list[int]], given)


class TokenizeRequest(Checked):
    """POST /tokenize, as vLLM has it"""

    model: str | None = None
    prompt: Text
    add_special_tokens: bool = True
    return_token_strs: bool | None = None


class DetokenizeRequest(Checked):
    """POST /detokenize, as vLLM has it"""

    model: str | None = None
    tokens: list[TokenId]


class Beginning(Checked):
    """What is given to the model, a conversation or a prompt; POST /v1/lengths: how long is it, and may it be."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = None
    prompt: Text | None = None

    @model_validator(mode="after")
    def _one_beginning(self) -> "Beginning":
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("messages: either they or a prompt must be given")
        return self

    @property
    def text_size(self) -> int:
        """Characters in all."""
        return len(self.prompt or "") + sum(len(message.plain()["content"]) for message in self.messages or [])


class InspectRequest(Beginning):
    """POST /v1/inspect: what was given to the model, and what it wrote, up to the token that is inspected.

    As text, or exactly, as the `token_ids` that came with it. The first `given` of them it was given, as `written` of a
    request that it went on from.
    """

    written: Text | list[TokenId] = ""
    given: Annotated[int, Field(ge=0)] = 0


class NextRequest(InspectRequest):
    """POST /v1/next: what these settings leave of the next token."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0


def _as_list(texts: str | list[str] | None) -> list[str]:
    if texts is None:
        return []
    return [texts] if isinstance(texts, str) else texts
