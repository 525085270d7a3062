"""A checkpoint's own chat template as the format of instruction data.

Templates are programs that come with a checkpoint, so they run in a sandbox. No clock is given to
them: a prompt is the same on every day.
"""

from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from jaxablate.core.errors import UserError
from jaxablate.core.files import read_json
from jaxablate.data.records import Message, Record
from jaxablate.data.sft import Unfit

# Stands for the answer while a template is asked what it writes in front of one.
_MARK = "\u2063answer\u2063"
# What a template, a program, can raise.
_FAILURES = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
)


class _Refusal(jinja2.TemplateError):
    """What `raise_exception` raises in a template."""


class ChatTemplate:
    """Renders a record as a conversation that ends with the assistant's answer.

    `render` goes to `sft.encode`. The template's end of turn is left to `encode`, which adds EOS
    by its id; BOS is in the text if the template writes it.
    """

    def __init__(self, text: str, *, special: dict[str, str], where: str):
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            extensions=["jinja2.ext.loopcontrols"],
        )
        environment.globals["raise_exception"] = _refuse
        self._special, self.where = special, where
        try:
            self._template = environment.from_string(text)
        except jinja2.TemplateError as error:
            raise UserError(f"{where}: not a usable chat template ({error})") from None

    @classmethod
    def load(cls, folder: str | Path) -> "ChatTemplate":
        """From chat_template.jinja, else from tokenizer_config.json, of a checkpoint folder."""
        folder = Path(folder)
        config, own = folder / "tokenizer_config.json", folder / "chat_template.jinja"
        table = read_json(config) if config.is_file() else {}
        text = own.read_text(encoding="utf-8") if own.is_file() else _default(table)
        if text is None:
            raise UserError(
                f"{folder}: no chat template (chat_template.jinja or 'chat_template' in "
                "tokenizer_config.json); plain headings need none"
            )
        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        special = {name: _text(table[name]) for name in names if table.get(name) is not None}
        return cls(text, special=special, where=str(folder))

    def render(self, record: Record) -> tuple[str, str]:
        """The text up to the answer, and the answer with what the template puts before it.

        The template writes the prompt before it is given the answer, so nothing of the answer is
        in the prompt. `Unfit` is raised for a conversation that the template itself refuses.
        """
        content = f"{record.instruction}\n\n{record.input}" if record.input else record.instruction
        turns = [turn._asdict() for turn in (*record.earlier, Message("user", content))]
        prompt = self._run(turns, add_generation_prompt=True)
        turns.append({"role": "assistant", "content": _MARK})
        before, mark, _ = self._run(turns, add_generation_prompt=False).rpartition(_MARK)
        if not mark or not before.startswith(prompt):
            raise UserError(
                f"{self.where}: under this chat template an answer does not follow the prompt "
                "that asks for it; use plain headings"
            )
        return prompt, before[len(prompt) :] + record.output

    def _run(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        try:
            return self._template.render(
                messages=messages, add_generation_prompt=add_generation_prompt, **self._special
            )
        except _Refusal as error:
            raise Unfit(f"the chat template refuses it ({error})") from None
        except _FAILURES as error:
            raise UserError(f"{self.where}: the chat template failed ({error})") from None


def _default(table: dict[str, Any]) -> str | None:
    found = table.get("chat_template")
    if isinstance(found, list):
        entries = (entry for entry in found if isinstance(entry, dict))
        found = next((e.get("template") for e in entries if e.get("name") == "default"), None)
    return found if isinstance(found, str) else None


def _text(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else token


def _refuse(message: str) -> str:
    raise _Refusal(message)
