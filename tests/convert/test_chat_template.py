"""Chat templates as markers around messages, and back."""

import pytest

from jaxgpt.convert.chat_template import chat_format, format_of, template_of
from jaxgpt.text.bpe_tokenizer import byte_tokenizer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
ADDS = CHATML.replace(
    "{{ '<|im_start|>' + m",
    "{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nHi<|im_end|>\n{% endif %}{{ '<|im_start|>' + m",
    1,
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<s>"]


def test_templates_that_are_markers():
    form, note = chat_format(CHATML, {}, SPECIAL)
    assert form == ("<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>", "\n", "")
    assert "is kept" in note
    form, _ = chat_format(LLAMA3, {"bos_token": "<s>"}, SPECIAL)
    assert form is not None
    assert (form.start, form.end, form.after) == ("<s>", "<|eot_id|>", "")
    assert form.user == "<|start_header_id|>user<|end_header_id|>\n\n"
    form, note = chat_format(ADDS, {}, SPECIAL)
    assert form is not None
    assert form.user == "<|im_start|>user\n"
    assert "but for the system message that it adds" in note


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}",
        "{% for m in messages %}{{ m['content'] | upper }}<|im_end|>{% endfor %}",
        "{{ messages[0]['content'] }}",
        "{% for m in messages",
        "{{ raise_exception('no') }}",
        "{{ ''.__class__.__mro__ }}",
    ],
)
def test_templates_that_are_not(template):
    form, note = chat_format(template, {}, SPECIAL)
    assert form is None
    assert "cannot be expressed by markers" in note


def test_our_template_says_what_we_render():
    form = format_of(byte_tokenizer())
    found, _ = chat_format(template_of(form), {}, form)
    assert found == form
