"""Tokenizer and chat template of an exported model, without Transformers.

`PromptRenderer` takes them as it takes a processor of Transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer

SpecialTokens = Mapping[str, str | list[str]]  # by the names that templates know


class ExportedTokenizer:
    """A tokenizer from its `tokenizer.json`."""

    def __init__(self, backend: Tokenizer, special_tokens: SpecialTokens) -> None:
        self.backend_tokenizer = backend
        start = special_tokens.get("bos_token")
        self.bos_token = start if isinstance(start, str) else None

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The tokens beside the vocabulary, by their ids."""
        added: dict[int, AddedToken] = self.backend_tokenizer.get_added_tokens_decoder()
        return added

    def convert_ids_to_tokens(self, token_id: int) -> str | None:
        """The token with this id."""
        token: str | None = self.backend_tokenizer.id_to_token(token_id)
        return token

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of a token."""
        token_id: int | None = self.backend_tokenizer.token_to_id(token)
        return token_id

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        """`input_ids` of a text."""
        encoded = self.backend_tokenizer.encode(
            text, add_special_tokens=add_special_tokens
        )
        return {"input_ids": encoded.ids}


class ExportedProcessor:
    """The tokenizer and the chat template."""

    def __init__(
        self, tokenizer: Tokenizer, chat_template: str, special_tokens: SpecialTokens
    ) -> None:
        """Raises jinja2.TemplateError."""
        self.tokenizer = ExportedTokenizer(tokenizer, special_tokens)
        self._special_tokens = special_tokens
        self._template = _compiled(chat_template)

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        tokenize: bool = False,
        **flags: Any,
    ) -> str:
        """The rendered text. Raises jinja2.TemplateError."""
        assert not tokenize, "the renderer asks for text"
        values = {**self._special_tokens, **flags}
        return self._template.render(
            messages=messages, add_generation_prompt=add_generation_prompt, **values
        )


def _compiled(chat_template: str) -> Template:
    # As Transformers has it: in a sandbox, since a template may come from anybody.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise
    return environment.from_string(chat_template)


def _raise(message: str) -> None:
    raise TemplateError(message)
