"""How long a prompt is in tokens, and how long it may be: what a page says before it is sent."""

from jaxgpt.inference.chat import room_for_prompt
from jaxgpt.serve.responses import Json
from jaxgpt.serve.schemas import Beginning
from jaxgpt.text.conversation import render_each
from jaxgpt.text.tokenizer import Tokenizer


def lengths(asked: Beginning, tokenizer: Tokenizer, context_len: int) -> Json:
    """Returns the tokens of the prompt, or of the last message, and how many it may have at most."""
    if asked.messages is None:
        return {"tokens": len(tokenizer.encode(asked.prompt or "")), "limit": context_len - 1}
    rendered = render_each([message.plain() for message in asked.messages], tokenizer)
    return {"tokens": len(rendered[-1].content_ids), "limit": room_for_prompt(rendered, context_len)}
