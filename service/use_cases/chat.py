"""Use case: a conversation about images, which its messages name or bring along."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from compressor.ports import Constraint, Turn
from index.library import Library
from service.errors import InvalidInput, NoImageStored
from service.use_cases.ask import Answer, Ask, Question
from service.use_cases.ingest import Failed, Ingest, Upload
from service.worker.request_context import RequestContext

STORED = "precis://"  # before the id of a stored image
DATA = "data:"


@dataclass(frozen=True)
class Message:
    """One message: its text, and the addresses of the images in it."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: Sequence[str] = ()


class Chat:
    """Turns messages into a question with a history, about the images of all messages."""

    def __init__(self, ask: Ask, ingest: Ingest, library: Library) -> None:
        self._ask = ask
        self._ingest = ingest
        self._library = library

    def __call__(
        self,
        messages: Sequence[Message],
        max_tokens: int,
        context: RequestContext,
        check_may_store: Callable[[], object],
        constraint: Constraint | None = None,
        stop: Sequence[str] = (),
    ) -> Answer:
        """The answer to the last message, not yet generated; it ends before the first `stop`.

        An image in a data URI is stored, unless it is stored already: only its first time needs a
        first pass. Before it is stored, `check_may_store` may raise. Without any image, the answer
        is about the nearest to the last message. Raises InvalidInput and what `Ask` and `Ingest`
        raise.
        """
        *history, last = _turns(messages)
        if last.role != "user":
            raise InvalidInput("The last message must be the user's.")
        addresses = [address for message in messages for address in message.images]
        ids: list[str] = []
        for address in dict.fromkeys(addresses):
            ids.append(self._image_id(address, context, check_may_store))
        question = Question(
            text=last.text,
            image_ids=ids or None,
            limit=1,
            max_tokens=max_tokens,
            history=history,
            constraint=constraint,
            stop=stop,
        )
        return self._ask(question, context)

    def _image_id(
        self,
        address: str,
        context: RequestContext,
        check_may_store: Callable[[], object],
    ) -> str:
        if address.startswith(STORED):
            return address.removeprefix(STORED)
        if not address.startswith(DATA):
            raise InvalidInput(
                "An image is `precis://ID` or a data URI; the service fetches no address."
            )
        data = _data_of(address)
        (record,) = self._library.find([hashlib.sha256(data).hexdigest()])
        if record is not None:
            return record.id
        check_may_store()
        return self._stored(data, context)

    def _stored(self, data: bytes, context: RequestContext) -> str:
        upload = Upload("image", io.BytesIO(data), {})
        try:
            (outcome,), _ = self._ingest([upload], context)
        except NoImageStored as error:
            # What is wrong with the one image, in place of a list of failures.
            raise error.failed[0].error from error
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome.record.id


def _turns(messages: Sequence[Message]) -> list[Turn]:
    """Turns of user and assistant that alternate; what the system says precedes the user's text."""
    turns: list[Turn] = []
    for message in messages:
        role: Literal["user", "assistant"] = (
            "assistant" if message.role == "assistant" else "user"
        )
        text = message.text.strip()
        if turns and turns[-1].role == role:
            text = "\n\n".join(filter(None, [turns.pop().text, text]))
        turns.append(Turn(role, text))
    if not turns:
        raise InvalidInput("There is no message.")
    return turns


def _data_of(address: str) -> bytes:
    head, _, data = address.partition(",")
    if not head.lower().endswith(";base64"):
        raise InvalidInput("A data URI of an image must be base64.")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("The base64 of a data URI is damaged.") from error
