"""Text to tokens and back over the API, in vLLM's shapes: what an evaluation needs to count tokens itself."""

from jaxgpt.serve.prompts import Served, check_tokens
from jaxgpt.serve.responses import Json
from jaxgpt.serve.schemas import DetokenizeRequest, TokenizeRequest


def tokenize(asked: TokenizeRequest, served: Served) -> Json:
    """Returns the tokens of a text, bos before them where special tokens are wanted.

    A prompt that is nothing but the name of a special token, as `tokenizer_info` has it, is that token: clients learn
    the ids of bos and eos so. Inside a longer text such a name is text, as everywhere.
    """
    tokenizer = served.tokenizer
    special = {tokenizer.token_text(id): id for id in tokenizer.special.ids}
    ids = [special[asked.prompt]] if asked.prompt in special else tokenizer.encode(asked.prompt)
    if asked.add_special_tokens:
        ids = [tokenizer.special.bos, *ids]
    names = list(map(tokenizer.token_text, ids)) if asked.return_token_strs else None
    return {"count": len(ids), "max_model_len": served.config.context_len, "tokens": ids, "token_strs": names}


def detokenize(asked: DetokenizeRequest, served: Served) -> Json:
    """Returns the text of tokens; raises ApiError where one of them is none."""
    check_tokens(asked.tokens, served, "tokens")
    return {"prompt": served.tokenizer.decode(asked.tokens)}


def tokenizer_info(served: Served) -> Json:
    """Returns what is to be known of the tokenizer, its special tokens by name."""
    tokenizer, special = served.tokenizer, served.tokenizer.special
    named = {"bos_token": special.bos, "eos_token": special.eos, "pad_token": special.pad, "unk_token": special.unk}
    names = {name: None if id is None else tokenizer.token_text(id) for name, id in named.items()}
    return {
        "tokenizer_class": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "model_max_length": served.config.context_len,
        **names,
    }
