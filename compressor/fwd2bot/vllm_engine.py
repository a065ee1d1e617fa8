"""Second pass on a vLLM server (port `Generator`), over its Completions API.

The server runs what `save_causal_lm` wrote, under the fingerprint of the summary model as its name.
It is sent embeddings (`prompt_embeds`), since summary tokens have no ids, and streams token ids,
which become text here as those of the other engines do.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import Any

import httpx2
import openai
import torch
from openai.types import Completion
from torch import Tensor

from compressor.errors import (
    CompressorError,
    EngineFailed,
    EngineOfOtherModel,
    EngineUnreachable,
)
from compressor.fwd2bot.answer_writer import AnswerWriter
from compressor.fwd2bot.constraints import NUMBER, ConstraintCompiler, choice_forms
from compressor.fwd2bot.generator import checked_prompt, constraint_compiler
from compressor.fwd2bot.model import SummaryLvlm
from compressor.ports import (
    Choice,
    Constraint,
    GenerationLimits,
    GenerationRequest,
    JsonSchema,
    Number,
    Piece,
)

TIMEOUT_S = 60.0  # to connect, and between two parts of an answer
RETRIES = 4  # of a request that the server has not begun to answer
# After so long without a token the caller may do something else.
_WAIT_S = 0.02


@dataclass(frozen=True)
class _Tokens:
    """A part of one answer."""

    request: int
    ids: list[int]
    log_probabilities: list[float]
    finish_reason: str | None


class VllmGenerator:
    """Answers with a vLLM server; prompts, tokenizer and word embeddings are the LVLM's."""

    def __init__(
        self,
        model: SummaryLvlm,
        url: str,
        fingerprint: str,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
    ) -> None:
        """`url` is that of the server's API, such as `http://127.0.0.1:8001/v1`.

        Raises EngineUnreachable, EngineFailed, or EngineOfOtherModel if the server serves no model
        with the name `fingerprint`.
        """
        self._model = model
        self._fingerprint = fingerprint
        self._end_ids = frozenset(model.end_ids)
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key="none",  # the client wants one; vLLM does not
            timeout=timeout_s,
            max_retries=retries,
        )
        # The answers of all calls stream at a time, on a thread of their own.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="vllm", daemon=True
        )
        self._thread.start()
        try:
            self._submit(self._check_server()).result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connections; the generator cannot be used any more."""
        if self._thread.is_alive():
            self._submit(self._client.close()).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        """See `Generator`.

        Raises RequestTooLong and ConstraintInvalid before the first piece, EngineFailed,
        EngineUnreachable and EngineOfOtherModel later.
        """
        if not requests:
            # An iterator that can be closed, as any other.
            return (piece for piece in list[Piece]())
        prompt = checked_prompt(self._model, requests, limits)
        writers = []
        bodies = []
        for number, (request, limit) in enumerate(zip(requests, limits, strict=True)):
            length = prompt.lengths[number]
            # Compiled here too: a form that nothing fits is refused before the first piece.
            form = request.constraint
            constraint = None if form is None else self._compile(form)
            writers.append(
                AnswerWriter(
                    self._model.backend_tokenizer,
                    self._end_ids,
                    length,
                    limit,
                    constraint,
                )
            )
            # Padding stands on the left.
            embeddings = prompt.inputs_embeds[number, -length:]
            bodies.append(self._body(embeddings, limit, form))
        return self._pieces(writers, bodies)

    @cached_property
    def _compile(self) -> ConstraintCompiler:
        return constraint_compiler(self._model, self._end_ids)

    def _body(
        self, embeddings: Tensor, limit: GenerationLimits, form: Constraint | None
    ) -> dict[str, Any]:
        """The arguments of a completion; `embeddings` (T, D) are its prompt."""
        extra: dict[str, Any] = {
            "prompt_embeds": _base64(embeddings),
            "return_token_ids": True,
            "stop_token_ids": sorted(self._end_ids),
        }
        if form is not None:
            extra["structured_outputs"] = _structured_outputs(form)
        return {
            "model": self._fingerprint,
            "prompt": None,  # the embeddings are the prompt
            "max_tokens": limit.max_tokens,
            "temperature": 0.0,
            "logprobs": 0,  # of the chosen tokens alone
            "extra_body": extra,
        }

    def _pieces(
        self, writers: list[AnswerWriter], bodies: list[dict[str, Any]]
    ) -> Iterator[Piece]:
        arrived: SimpleQueue[_Tokens | CompressorError] = SimpleQueue()
        streams = [
            self._submit(self._stream(number, body, arrived))
            for number, body in enumerate(bodies)
        ]
        try:
            while not all(writer.finish_reason for writer in writers):
                try:
                    event = arrived.get(timeout=_WAIT_S)
                except Empty:
                    # Without text: the caller may do something else now, or close the iterator.
                    waiting = [w.finish_reason is None for w in writers].index(True)
                    yield _piece(writers[waiting], waiting, "")
                    continue
                if isinstance(event, CompressorError):
                    raise event
                writer = writers[event.request]
                text = _write(writer, event)
                if text or writer.finish_reason:
                    yield _piece(writer, event.request, text)
                    if writer.finish_reason:
                        # The server may not have come to the end that was seen here.
                        streams[event.request].cancel()
        finally:
            for stream in streams:
                stream.cancel()

    def _submit(self, work: Any) -> Any:
        """A future of a coroutine's result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _check_server(self) -> None:
        try:
            served = {model.id async for model in self._client.models.list()}
        except _ERRORS as error:
            raise self._translated(error) from error
        if self._fingerprint not in served:
            raise self._other_model()

    async def _stream(
        self,
        number: int,
        body: dict[str, Any],
        arrived: SimpleQueue[_Tokens | CompressorError],
    ) -> None:
        """Puts the parts of one answer into the queue, or the error that ends it."""
        has_ended = False
        try:
            # Leaving the block, by cancellation too, closes the connection; the server then stops.
            async with await self._client.completions.create(
                **body, stream=True
            ) as stream:
                async for chunk in stream:
                    for part in _parts(number, chunk):
                        arrived.put(part)
                        has_ended |= part.finish_reason is not None
            if not has_ended:
                raise EngineFailed("vLLM broke off in the middle of an answer")
        except CompressorError as error:
            arrived.put(error)
        except _ERRORS as error:
            translated = self._translated(error)
            translated.__cause__ = error
            arrived.put(translated)

    def _translated(self, error: Exception) -> CompressorError:
        if isinstance(error, openai.NotFoundError):
            return self._other_model()
        if isinstance(error, openai.APIStatusError):
            reason = f"vLLM at {self._client.base_url} answered {error.status_code}"
            is_busy = error.status_code == 429 or error.status_code >= 500
            return (EngineUnreachable if is_busy else EngineFailed)(reason)
        if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
            return EngineUnreachable(
                f"vLLM at {self._client.base_url} did not answer in time"
            )
        if isinstance(error, openai.APIConnectionError):
            return EngineUnreachable(
                f"the connection to vLLM at {self._client.base_url} failed"
            )
        return EngineFailed(f"vLLM stopped at a request: {type(error).__name__}")

    def _other_model(self) -> EngineOfOtherModel:
        return EngineOfOtherModel(
            f"vLLM at {self._client.base_url} serves no model {self._fingerprint}; export the"
            " second pass of the present model, and name it so with --served-model-name"
        )


# What the client raises: its own errors, those of a connection that breaks in the middle of an
# answer, and what is no JSON.
_ERRORS = (openai.OpenAIError, httpx2.HTTPError, ValueError)


def _base64(embeddings: Tensor) -> str:
    """(T, D) in the model's dtype as vLLM reads it: a file of torch.save."""
    buffer = io.BytesIO()
    # A copy: of a view, `save` would write all that lies behind it.
    torch.save(embeddings.detach().cpu().clone(), buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def _structured_outputs(form: Constraint) -> dict[str, Any]:
    match form:
        case Choice():
            return {"choice": list(choice_forms(form))}
        case Number():
            return {"regex": NUMBER}
        case JsonSchema(text):
            return {"json": json.loads(text), "disable_any_whitespace": True}


def _parts(number: int, chunk: Completion) -> Iterator[_Tokens]:
    """What a chunk tells of the answer to a request. Raises EngineFailed."""
    for choice in chunk.choices:
        ids = (choice.model_extra or {}).get("token_ids")
        if ids is None or choice.logprobs is None:
            raise EngineFailed(
                "the server streams no token ids: it is no vLLM of 0.10.2 or later"
            )
        values = choice.logprobs.token_logprobs or []
        yield _Tokens(number, ids, values, choice.finish_reason)


def _write(writer: AnswerWriter, part: _Tokens) -> str:
    """The text that a part adds to its answer. Raises EngineFailed."""
    text = ""
    for token, log_probability in zip(part.ids, part.log_probabilities, strict=True):
        if writer.finish_reason is None:
            text += writer.write(token, log_probability)
    if writer.finish_reason is None:
        match part.finish_reason:
            case "stop" | "length" as reason:
                text += writer.end(reason)
            case str() as reason:
                raise EngineFailed(f"vLLM ended an answer with {reason!r}")
    return text


def _piece(writer: AnswerWriter, request: int, text: str) -> Piece:
    piece = writer.piece(request, text)
    if writer.constraint is None:
        return piece
    # The server's probabilities are among all tokens, not among those that the form allows.
    return replace(piece, mean_probability=None)
