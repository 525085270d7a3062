"""A chat template renders what transformers renders, in a sandbox and without a clock."""

import json

import pytest

from jaxablate.core.errors import UserError
from jaxablate.data.chat import ChatTemplate
from jaxablate.data.records import Record
from jaxablate.data.sft import encode
from jaxablate.data.tokenizer import Tokenizer
from tests.data.tokens import save

RECORD = Record("train:0", "Translate.", "the cat", "le chat")
PLAIN = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant'] %}
        {{- raise_exception('unknown role') }}
    {%- endif %}
    {{- '<|' + message['role'] + '|>\\n' + message['content'] | trim }}
    {%- if message.role == 'assistant' %}{{ eos_token }}{% endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\\n' }}
{%- endif %}
"""
THINKING = PLAIN.replace(
    "+ message['content'] | trim",
    "+ ('<think></think>\\n' if message.role == 'assistant' else '') + message['content']",
)
DATED = (
    "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}"
    "{% for message in messages %}{% if loop.index > 5 %}{% break %}{% endif %}"
    "[{{ message.role }}] {{ message.content }} {% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def folder_with(tmp_path, template, *, as_file=False):
    if as_file:
        save(tmp_path)
        (tmp_path / "chat_template.jinja").write_text(template)
        return tmp_path
    return save(tmp_path, chat_template=template)


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("template", [PLAIN, THINKING])
def test_prompt_and_answer_are_those_of_transformers(tmp_path, template, as_file):
    transformers = pytest.importorskip("transformers")
    folder = folder_with(tmp_path, template, as_file=as_file)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    user = {"role": "user", "content": "Translate.\n\nthe cat"}
    answer = {"role": "assistant", "content": "le chat"}
    prompt, response = ChatTemplate.load(folder).render(RECORD)
    asked = theirs.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    whole = theirs.apply_chat_template([user, answer], tokenize=False)
    assert prompt == asked
    assert prompt + response + "</s>\n" == whole


def test_encoded_chat_has_one_bos_one_eos_and_no_supervised_prompt(tmp_path):
    folder = folder_with(tmp_path, PLAIN)
    tokenizer = Tokenizer.load(folder)
    render = ChatTemplate.load(folder).render
    (example,) = encode([RECORD], tokenizer, max_length=256, render=render).examples
    ids = example.tokens.tolist()
    assert (ids[0], ids.count(tokenizer.bos_id)) == (tokenizer.bos_id, 1)
    assert (ids[-1], ids.count(tokenizer.eos_id)) == (tokenizer.eos_id, 1)
    assert tokenizer.decode(ids[example.prompt_length :]) == "le chat"


def test_no_clock_is_given_to_a_template(tmp_path):
    prompt, response = ChatTemplate.load(folder_with(tmp_path, DATED)).render(RECORD)
    assert (prompt, response) == ("[user] Translate.\n\nthe cat [assistant] ", "le chat")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages.__class__.__mro__ }}", "chat template failed"),
        ("{% for x in range(10 ** 9) %}{% endfor %}", "chat template failed"),
        ("{{ raise_exception('only tools') }}", r"refuses it \(only tools\)"),
        ("{{ messages[0].content + 1 }}", "chat template failed"),
        ("{{ 1 // 0 }}", "chat template failed"),
        ("{% for %}", "not a usable chat template"),
        ("{{ messages | length }}", "does not follow the prompt"),
    ],
)
def test_a_hostile_or_unfit_template_is_an_error(tmp_path, template, message):
    with pytest.raises(UserError, match=message):
        ChatTemplate.load(folder_with(tmp_path, template)).render(RECORD)


def test_the_default_of_several_templates_is_taken_and_none_is_an_error(tmp_path):
    several = [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": PLAIN},
    ]
    folder = save(tmp_path / "several", chat_template=several)
    assert ChatTemplate.load(folder).render(RECORD)[1] == "le chat"
    bare = save(tmp_path / "bare")
    assert "chat_template" not in json.loads((bare / "tokenizer_config.json").read_text())
    with pytest.raises(UserError, match="no chat template"):
        ChatTemplate.load(bare)
