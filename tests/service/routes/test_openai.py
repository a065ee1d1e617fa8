"""OpenAI's own client, unmodified, against the service on a real socket."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import openai
import pytest
from fastapi.testclient import TestClient
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from tests.clients.serving import served
from tests.fakes.model import EMBEDDING_SIZE, InterruptedGenerator, InterruptedModel
from tests.service.conftest import Start, add, factory, listed, picture
from tests.service.routes.test_access import make_key

MODEL = "fake colours"
Messages = list[ChatCompletionMessageParam]


BAD_SCHEMA = {"name": "a", "schema": {"type": "banana"}}
BAD_FORMAT = {"type": "json_schema", "json_schema": BAD_SCHEMA}
NO_SCHEMA = {"type": "json_schema", "json_schema": {"name": "a"}}


class Seen(BaseModel):
    """What an answer is asked to be."""

    colour: Literal["red", "blue"]
    count: int


class Broken(RuntimeError):
    """What the fake model raises in the middle of an answer."""


def data_uri(colour: str) -> str:
    return "data:image/png;base64," + base64.b64encode(picture(colour)).decode()


def show(text: str, *addresses: str) -> Any:
    """A user's message with images."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in addresses]
    return {"role": "user", "content": [{"type": "text", "text": text}, *images]}


@pytest.fixture(scope="module")
def batches() -> list[int]:
    """Sizes of the batches that went through the fake model."""
    return []


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, batches: list[int]) -> Iterator[str]:
    model = InterruptedModel(lambda batch: batches.append(len(batch)))
    folder: Path = tmp_path_factory.mktemp("library")
    with served(folder, factory(model), max_answer_tokens=20) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def red(client: OpenAI) -> str:
    """The id of a red image, stored by a first conversation about it."""
    messages: Messages = [show("What is it?", data_uri("red"))]
    answer = client.chat.completions.create(model="precis", messages=messages)
    image_id: str = answer.precis["images"][0]["id"]  # type: ignore[attr-defined]
    return image_id


def test_the_models(client: OpenAI) -> None:
    (model,) = client.models.list()
    assert (model.id, model.owned_by) == (MODEL, "precis")
    assert client.models.retrieve("precis").id == MODEL
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-x")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(client: OpenAI, encoding: Any) -> None:
    texts = ["a red thing", "a blue thing"]
    answer = client.embeddings.create(
        model=MODEL, input=texts, encoding_format=encoding
    )
    vectors = [each.embedding for each in answer.data]
    if encoding == "base64":
        decoded = [base64.b64decode(str(vector)) for vector in vectors]
        vectors = [np.frombuffer(data, "<f4").tolist() for data in decoded]
    (plain,) = client.embeddings.create(model=MODEL, input=texts[0]).data
    assert len(plain.embedding) == EMBEDDING_SIZE
    np.testing.assert_allclose(vectors[0], plain.embedding)
    assert [each.index for each in answer.data] == [0, 1]


def test_no_text_to_embed_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="input"):
        client.embeddings.create(model=MODEL, input=[])


def test_an_image_goes_through_the_model_once_and_is_named_then(
    client: OpenAI, red: str, batches: list[int]
) -> None:
    batches.clear()
    history: Messages = [
        show("What is it?", data_uri("red")),
        {"role": "assistant", "content": "I see red."},
    ]
    for address in (f"precis://{red}", data_uri("red")):
        messages = [*history, show("And again?", address)]
        answer = client.chat.completions.create(model=MODEL, messages=messages)
        (choice,) = answer.choices
        assert choice.message.content == "I see red."
        assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 3
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + 3
        images = answer.precis["images"]  # type: ignore[attr-defined]
        assert [image["id"] for image in images] == [red]
    assert batches == []


def test_a_conversation_reaches_the_model_turn_by_turn(
    client: OpenAI, red: str
) -> None:
    messages: Messages = [
        {"role": "system", "content": "Be brief."},
        show("one two", f"precis://{red}"),
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "four"},
        {"role": "user", "content": "five"},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages)
    alone = client.chat.completions.create(model=MODEL, messages=[messages[1]])
    assert answer.usage is not None
    assert alone.usage is not None
    assert answer.usage.prompt_tokens == alone.usage.prompt_tokens + 5


def test_a_stream(client: OpenAI, red: str) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[show("What?", f"precis://{red}")],
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(texts) == "I see red."
    assert len([text for text in texts if text]) == 3
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].precis["images"][0]["id"] == red  # type: ignore[attr-defined]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 3
    assert len({chunk.id for chunk in [*chunks, last]}) == 1


def test_a_larger_wish_is_cut_down_to_the_limit(client: OpenAI, red: str) -> None:
    messages: Messages = [show("count", f"precis://{red}")]
    for wish, expected in ((4096, 20), (2, 2)):
        answer = client.chat.completions.create(
            model=MODEL, messages=messages, max_completion_tokens=wish
        )
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == expected


@pytest.mark.parametrize(
    ("stop", "text", "tokens"),
    [
        (" 4", "1 2 3", 4),
        (["x", "3 4"], "1 2", 4),  # spans two pieces
        (["1"], "", 1),
        ([], None, 20),
        ("3 5", None, 20),
    ],
)
def test_an_answer_ends_before_a_stop_sequence(
    client: OpenAI, red: str, stop: Any, text: str | None, tokens: int
) -> None:
    options: Any = {
        "model": MODEL,
        "messages": [show("count", f"precis://{red}")],
        "stop": stop,
    }
    whole = client.chat.completions.create(**options)
    choice = whole.choices[0]
    if text is None:
        text = " ".join(map(str, range(1, 21)))
        assert choice.finish_reason == "length"
    else:
        assert choice.finish_reason == "stop"
    assert choice.message.content == text
    assert whole.usage.completion_tokens == tokens
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + tokens
    usage = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(**options, stream=True, stream_options=usage)
    )
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert "".join(texts).strip() == text
    assert chunks[-2].choices[0].finish_reason == choice.finish_reason
    assert chunks[-1].usage == whole.usage


def test_the_model_writes_no_further_than_a_stop_sequence(start: Start) -> None:
    written: list[int] = []
    generator = InterruptedGenerator(
        lambda piece: written.append(piece.completion_tokens)
    )
    client = start(factory(generator=generator), max_answer_tokens=100_000)
    (red,) = add(client, "red")
    body = {
        "model": MODEL,
        "messages": [show("count", f"precis://{red}")],
        "stop": "3",
    }
    for stream in (False, True):
        generator.closed_early.clear()
        written.clear()
        response = client.post("/v1/chat/completions", json=body | {"stream": stream})
        assert response.status_code == 200
        assert generator.closed_early.wait(30)
        assert written[-1] < 100_000


def test_responses(client: OpenAI, red: str) -> None:
    content: Any = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": f"precis://{red}", "detail": "auto"},
    ]
    asked: Any = [{"role": "user", "content": content}]
    answer = client.responses.create(model=MODEL, input=asked, instructions="Be brief.")
    assert answer.output_text == "I see red."
    assert answer.status == "completed"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 3
    cut = client.responses.create(model=MODEL, input="count", max_output_tokens=2)
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    with client.responses.stream(model=MODEL, input=asked) as stream:
        deltas = [
            event.delta
            for event in stream
            if event.type == "response.output_text.delta"
        ]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == "I see red."


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([show("a", "https://example.org/a.png")], "fetches no address"),
        ([show("a", "data:image/png,abc")], "must be base64"),
        ([show("a", "data:image/png;base64,@@@")], "damaged"),
        ([show("a", "data:image/png;base64,YWJj")], "not an image"),
        ([{"role": "assistant", "content": "a"}], "must be the user's"),
        ([{"role": "user", "content": " "}], "is empty"),
        ([{"role": "user", "content": "a"}] * 0, "at least 1 item"),
        ([{"role": "user", "content": [{"type": "video"}]}], "video"),
    ],
)
def test_bad_messages_are_bad_requests(
    client: OpenAI, messages: Any, message: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=messages)
    assert message in caught.value.message
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id


CONTENT = "messages[0].content"
PART = "input[0].content[0].text"


def with_part(**part: Any) -> list[Any]:
    return [{"role": "user", "content": [part]}]


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -0.5}, "frequency_penalty"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"seed": 1.5}, "seed"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": "all"}, "max_tokens"),
        ({"stop": ""}, "stop"),
        ({"stop": list("abcde")}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": 7}, "stop"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"response_format": NO_SCHEMA}, "response_format"),
        ({"response_format": BAD_FORMAT}, "response_format"),
        ({"model": "gpt-x"}, "model"),
        ({"messages": [{"role": "nobody", "content": "a"}]}, "messages[0].role"),
        ({"messages": with_part(type="text", text=5)}, CONTENT + "[0].text"),
        ({"messages": with_part(type="text")}, CONTENT + "[0].text"),
        ({"messages": with_part(type="output_text", text=[])}, CONTENT + "[0].text"),
        ({"messages": with_part(type="image_url")}, CONTENT + "[0].image_url"),
        (
            {"messages": with_part(type="image_url", image_url={"url": 1})},
            CONTENT + "[0].image_url.url",
        ),
        (
            {"messages": with_part(type="input_image", image_url={})},
            CONTENT + "[0].image_url",
        ),
        ({"messages": with_part(type="video")}, CONTENT + "[0]"),
        ({"messages": with_part(text="a")}, CONTENT + "[0]"),
        ({"messages": [show("x" * 2001, "precis://a")]}, "messages"),
        ({"messages": [show("What?", "precis://a")]}, "messages"),
        ({"messages": [show("What?", "data:image/png;base64,YWJj")]}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_honoured_is_refused(
    client: OpenAI, red: str, options: Any, param: str, stream: bool
) -> None:
    body: Any = {
        "model": MODEL,
        "messages": [show("What?", f"precis://{red}")],
        "stream": stream,
    }
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**(body | options))
    assert caught.value.status_code in (400, 404)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"stop": "x"}, "stop"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"temperature": -1}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", **BAD_SCHEMA}}}, "text.format"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, PART),
        ({"input": "x" * 2001}, "input"),
        ({"input": " "}, "input"),
    ],
)
def test_what_a_response_cannot_honour_is_refused(
    client: OpenAI, options: Any, param: str
) -> None:
    body: Any = {"model": MODEL, "input": "What?"} | options
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/responses", body=body, cast_to=object)
    assert caught.value.param == param


def test_what_has_no_effect_is_taken(client: OpenAI, red: str) -> None:
    messages: Messages = [show("What?", f"precis://{red}")]
    ignored = {
        "temperature": 0.7,
        "top_p": 1,
        "seed": 1,
        "user": "me",
        "stop": None,
        "presence_penalty": 0,
        "logprobs": False,
        "n": 1,
    }
    answer = client.chat.completions.create(  # type: ignore[call-overload]
        model=MODEL, messages=messages, **ignored
    )
    assert answer.choices[0].message.content == "I see red."


def test_answers_are_of_the_class_asked_for(client: OpenAI, red: str) -> None:
    messages: Messages = [show("What?", f"precis://{red}")]
    chat = client.chat.completions.parse(
        model=MODEL, messages=messages, response_format=Seen
    )
    assert chat.choices[0].message.parsed == Seen(colour="red", count=1)
    image = {"type": "input_image", "image_url": f"precis://{red}", "detail": "auto"}
    text = {"type": "input_text", "text": "What?"}
    response = client.responses.parse(
        model=MODEL,
        input=[{"role": "user", "content": [text, image]}],  # type: ignore[list-item]
        text_format=Seen,
    )
    assert response.output_parsed == Seen(colour="red", count=1)
    assert response.text is not None
    assert response.text.format is not None
    assert response.text.format.type == "json_schema"
    plain = client.chat.completions.create(
        model=MODEL, messages=messages, response_format={"type": "json_object"}
    )
    assert json.loads(plain.choices[0].message.content or "") == {}


def test_other_errors_have_the_classes_of_openai_s(client: OpenAI, url: str) -> None:
    messages: Messages = [show("a", "precis://" + "0" * 32)]
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=MODEL, messages=messages)
    assert caught.value.code == "image_not_found"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(
            model=MODEL, messages=messages, extra_query={"collection": "none"}
        )
    response = httpx.get(f"{url}/images/unknown")
    assert response.headers["content-type"] == "application/problem+json"


def test_keys_and_their_scopes(start: Start, data_dir: Path) -> None:
    client = start()
    add(client, "red")
    reader = make_key(data_dir, "read")
    writer = make_key(data_dir, "write")

    def ask_about(colour: str, headers: dict[str, str]) -> Any:
        body = {"model": MODEL, "messages": [show("What?", data_uri(colour))]}
        return client.post("/v1/chat/completions", json=body, headers=headers)

    refused = ask_about("red", {})
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert ask_about("red", reader).status_code == 200
    refused = ask_about("blue", reader)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "key_not_sufficient"
    client.headers.update(reader)
    assert len(listed(client)) == 1
    assert ask_about("blue", writer).status_code == 200
    assert len(listed(client)) == 2


def test_an_error_in_a_stream_ends_it_as_an_error(start: Start) -> None:
    def interrupt(piece: Any) -> None:
        if piece.completion_tokens == 2:
            raise Broken

    generator = InterruptedGenerator(interrupt)
    client: TestClient = start(factory(generator=generator))
    (red,) = add(client, "red")
    body = {
        "model": MODEL,
        "messages": [show("What?", f"precis://{red}")],
        "stream": True,
    }
    response = client.post("/v1/chat/completions", json=body)
    *_, last = response.text.strip().split("\n\n")
    assert '"type": "server_error"' in last
    assert "[DONE]" not in response.text
