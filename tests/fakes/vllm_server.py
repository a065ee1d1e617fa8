"""A server that speaks as much of vLLM's Completions API as the generator needs, over Transformers.

It serves a folder that `precis export second-pass` wrote, on a real socket. A test may let it fail.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from transformers import AutoModelForCausalLM, AutoTokenizer

from compressor.fwd2bot.constraints import ConstraintCompiler, TokenConstraint
from compressor.ports import Choice, Constraint, JsonSchema, Number


@dataclass
class FakeVllm:
    """A running server, and what a test lets it do."""

    model: Any
    tokenizer: Any
    served: str  # the name of the model
    url: str = ""
    refusals: list[int] = field(default_factory=list)  # statuses of the next requests
    break_after: int | None = None  # tokens, after which the connection breaks
    tells_ids: bool = True  # versions before 0.10.2 do not
    stall: threading.Event | None = None  # for which requests wait
    requests: int = 0
    abandoned: threading.Event = field(default_factory=threading.Event)

    def tokens(
        self, embeddings: torch.Tensor, body: dict[str, Any]
    ) -> Iterator[tuple[int, float, str | None]]:
        """Greedy tokens with their log probability, and why the last one is the last."""
        constraint = self._constraint(body)
        cache = None
        inputs = embeddings.unsqueeze(0)
        for number in range(1, body["max_tokens"] + 1):
            with torch.inference_mode():
                outputs = self.model(
                    inputs_embeds=inputs, past_key_values=cache, use_cache=True
                )
                logits = outputs.logits[0, -1].float()
                scores = logits.log_softmax(-1)
                if constraint is not None:
                    allowed = torch.from_numpy(constraint.allowed())
                    logits[~allowed] = -torch.inf
                token = int(logits.argmax())
                cache = outputs.past_key_values
                inputs = self.model.get_input_embeddings()(torch.tensor([[token]]))
            reason = "length" if number == body["max_tokens"] else None
            if token in body["stop_token_ids"]:
                reason = "stop"
            elif constraint is not None:
                constraint.take(token)
            yield token, float(scores[token]), reason
            if reason is not None:
                return

    def _constraint(self, body: dict[str, Any]) -> TokenConstraint | None:
        forms: dict[str, Any] = body.get("structured_outputs") or {}
        form: Constraint
        if "choice" in forms:
            form = Choice(tuple(forms["choice"]))
        elif "regex" in forms:
            form = Number()
        elif "json" in forms:
            assert forms["disable_any_whitespace"]
            form = JsonSchema(json.dumps(forms["json"]))
        else:
            return None
        vocabulary = self.model.config.vocab_size
        return ConstraintCompiler(
            self.tokenizer.backend_tokenizer, vocabulary, body["stop_token_ids"]
        )(form)

    async def events(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """The events of a streamed completion."""
        embeddings = _decoded(body["prompt_embeds"], self.model)
        tokens = enumerate(self.tokens(embeddings, body))
        finished = False
        try:
            # A client that leaves cancels what is awaited.
            while item := await asyncio.to_thread(next, tokens, None):
                number, (token, score, reason) = item
                if number == self.break_after:
                    # The server leaves the response without its end.
                    raise ConnectionResetError
                choice = {
                    "index": 0,
                    "text": self.tokenizer.decode([token]),
                    "logprobs": {
                        "text_offset": [0],
                        "tokens": [""],
                        "token_logprobs": [score],
                        "top_logprobs": [{}],
                    },
                    "finish_reason": reason,
                }
                if self.tells_ids:
                    choice["token_ids"] = [token]
                yield _event(body["model"], [choice])
            finished = True
            yield "data: [DONE]\n\n"
        finally:
            if not finished:
                self.abandoned.set()


def _decoded(text: str, model: Any) -> torch.Tensor:
    """What vLLM accepts: one dense matrix of floats, as wide as the model."""
    data = base64.b64decode(text, validate=True)
    tensor = torch.load(io.BytesIO(data), weights_only=True)
    assert tensor.is_floating_point()
    assert tensor.ndim == 2
    assert tensor.shape[1] == model.config.hidden_size
    # No more than the matrix was sent.
    assert len(data) < tensor.numel() * tensor.element_size() + 4096
    return torch.as_tensor(tensor)


def _event(model: str, choices: list[dict[str, Any]]) -> str:
    chunk = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 0,
        "model": model,
        "choices": choices,
    }
    return f"data: {json.dumps(chunk)}\n\n"


def _error(status: int) -> JSONResponse:
    error = {"error": {"message": "no", "type": "Error", "code": status}}
    return JSONResponse(error, status, {"retry-after-ms": "1"})


def _app(fake: FakeVllm) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        model = {"id": fake.served, "object": "model", "created": 0, "owned_by": "vllm"}
        return {"object": "list", "data": [model]}

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        fake.requests += 1
        body = await request.json()
        if fake.refusals:
            return _error(fake.refusals.pop(0))
        if body["model"] != fake.served:
            return _error(404)
        assert body["stream"]
        # To vLLM 0.32 any other prompt, even an empty one, is a second one beside the embeddings.
        assert body["prompt"] is None
        assert body["return_token_ids"]
        assert body["temperature"] == 0
        if fake.stall is not None:
            await asyncio.to_thread(fake.stall.wait, 30)
        return StreamingResponse(fake.events(body), media_type="text/event-stream")

    return app


@contextmanager
def fake_vllm(folder: Path, served: str) -> Iterator[FakeVllm]:
    """A server of the model in a folder, under a name; it has stopped after the block."""
    fake = FakeVllm(
        AutoModelForCausalLM.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
        served,
    )
    config = uvicorn.Config(_app(fake), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        options = {"sockets": [listening]}
        # Python waits for other threads before `atexit`, where some tests' servers are stopped.
        thread = threading.Thread(target=server.run, kwargs=options, daemon=True)
        thread.start()
        try:
            fake.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
            yield fake
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
