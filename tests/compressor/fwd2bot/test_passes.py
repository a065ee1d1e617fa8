"""First and second pass beyond what the conformance suites ask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from compressor.errors import RequestTooLong
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.model import MAX_TEXT_TOKENS, SummaryLvlm
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import GenerationLimits, GenerationRequest, Piece, Turn
from tests.compressor.tiny import CONTEXT_TOKENS, END_TOKEN
from tests.conformance.summary_model_suite import pictures


@pytest.fixture(scope="module")
def tokens(frozen_model: SummaryLvlm) -> list[np.ndarray]:
    return list(LvlmSummaryModel(frozen_model, "0" * 32).compress(pictures()).tokens)


@pytest.fixture
def generator(frozen_model: SummaryLvlm) -> LvlmGenerator:
    return LvlmGenerator(frozen_model)


def ask(*texts: str) -> list[Turn]:
    return [
        Turn("assistant" if number % 2 else "user", text)
        for number, text in enumerate(texts)
    ]


def test_chunks_of_the_first_pass_leave_no_trace(frozen_model: SummaryLvlm) -> None:
    images = [*pictures(), *pictures()[:1]]
    ones, threes = (
        LvlmSummaryModel(frozen_model, "0" * 32, batch_size=size).compress(images)
        for size in (1, 3)
    )
    np.testing.assert_allclose(ones.tokens, threes.tokens, atol=1e-5)
    np.testing.assert_array_equal(threes.tokens[0], threes.tokens[0])
    np.testing.assert_allclose(ones.embeddings[0], ones.embeddings[4], atol=1e-6)


def test_no_images_and_no_texts_give_empty_arrays(frozen_model: SummaryLvlm) -> None:
    model = LvlmSummaryModel(frozen_model, "0" * 32)
    summary = model.compress([])
    assert summary.tokens.shape == (0, *model.tokens_shape)
    assert summary.embeddings.shape == (0, model.embedding_size)
    assert model.embed_text([]).shape == (0, model.embedding_size)


def pieces_of(
    generator: LvlmGenerator, tokens: list[np.ndarray], *texts: str
) -> list[Piece]:
    requests = [GenerationRequest(tokens[:1], ask(text)) for text in texts]
    limits = [GenerationLimits(max_tokens=4)] * len(texts)
    return list(generator.generate(requests, limits))


def _without_probabilities(pieces: list[Piece]) -> list[Piece]:
    """The pieces as far as rounding in another order of sums leaves them."""
    return [replace(piece, mean_probability=None) for piece in pieces]


def test_a_long_prompt_is_read_in_parts_and_answered_alike(
    frozen_model: SummaryLvlm, tokens: list[np.ndarray]
) -> None:
    texts = ["why " * 30 + "?", "is the image in the image ?"]
    whole = pieces_of(LvlmGenerator(frozen_model, 10_000), tokens, *texts)
    parts = pieces_of(LvlmGenerator(frozen_model, 7), tokens, *texts)
    reading = [piece for piece in parts if not piece.completion_tokens]
    longest = max(piece.prompt_tokens for piece in whole)
    assert len(reading) == (longest - 1) // 7
    assert not any(piece.text or piece.finish_reason for piece in reading)
    assert _without_probabilities(parts[len(reading) :]) == _without_probabilities(
        whole
    )


def test_a_prompt_that_nobody_waits_for_is_not_read_to_its_end(
    frozen_model: SummaryLvlm, tokens: list[np.ndarray]
) -> None:
    calls: list[object] = []
    hook = frozen_model.decoder.register_forward_hook(
        lambda *arguments: calls.append(arguments[0])
    )
    request = GenerationRequest(tokens[:1], ask("why " * 30))
    try:
        pieces = LvlmGenerator(frozen_model, 5).generate(
            [request], [GenerationLimits()]
        )
        next(pieces)
        pieces.close()
    finally:
        hook.remove()
    assert len(calls) == 1


def test_the_first_pass_depends_on_the_image_the_summary_tokens_and_the_adapter(
    model: SummaryLvlm,
) -> None:
    def tokens() -> torch.Tensor:
        with torch.no_grad():
            return model.first_pass(model.first_pass_inputs(pictures()[:1])).tokens

    start = tokens()
    with torch.no_grad():
        model.embedding.summary += 0.3
    moved = tokens()
    assert not torch.allclose(start, moved, atol=1e-3)
    with torch.no_grad():
        next(
            p for n, p in model.named_parameters() if "lora_B.second_pass" in n
        ).normal_()
    torch.testing.assert_close(tokens(), moved, atol=0, rtol=0)
    with torch.no_grad():
        next(
            p for n, p in model.named_parameters() if "lora_B.first_pass" in n
        ).normal_()
    assert not torch.allclose(tokens(), moved, atol=1e-3)


def test_a_text_without_words_still_has_an_embedding(frozen_model: SummaryLvlm) -> None:
    found = LvlmSummaryModel(frozen_model, "0" * 32).embed_text(["", "a cat"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("words", ["umbrella " * 600, "狗" * 2000])
def test_a_long_search_text_is_read_by_its_beginning(
    frozen_model: SummaryLvlm, words: str
) -> None:
    read: list[int] = []

    def note(_module: nn.Module, _args: object, kwargs: dict[str, Tensor]) -> None:
        read.append(kwargs["inputs_embeds"].shape[1])

    model = LvlmSummaryModel(frozen_model, "0" * 32)
    hook = frozen_model.decoder.register_forward_pre_hook(note, with_kwargs=True)
    try:
        ends = [model.embed_text([words + end]) for end in ("cat", "dog")]
    finally:
        hook.remove()
    assert read == [MAX_TEXT_TOKENS] * 2
    np.testing.assert_array_equal(*ends)
    assert not np.allclose(model.embed_text(["cat"]), model.embed_text(["dog"]))


def test_special_tokens_that_somebody_typed_are_text(
    frozen_model: SummaryLvlm, generator: LvlmGenerator, tokens: list[np.ndarray]
) -> None:
    for text in ("<image> what is this?", f"a {END_TOKEN} b", "<image><image>"):
        ids = frozen_model.prompt_ids(1, [("user", text)])
        assert ids.count(frozen_model.image_token_id) == 1
        assert frozen_model.tokenizer.eos_token_id not in ids
        requests = [GenerationRequest(tokens[:1], ask(text))]
        assert list(generator.generate(requests, [GenerationLimits(2)]))[
            -1
        ].finish_reason
    assert "is < image > a" not in frozen_model.tokenizer.decode(
        frozen_model.prompt_ids(1, [("user", "is < a")])
    )


def test_images_and_placeholders_must_agree(frozen_model: SummaryLvlm) -> None:
    ids = frozen_model.prompt_ids(2, [("user", "what?")])
    vectors = torch.zeros(8, frozen_model.hidden_size)
    with pytest.raises(ValueError, match="2 places for 1 images"):
        frozen_model.with_images(ids, [vectors])
    assert (
        len(frozen_model.with_images(ids, [vectors, vectors[:3]])) == len(ids) - 2 + 11
    )


def test_the_prompt_holds_images_and_turns_in_order(frozen_model: SummaryLvlm) -> None:
    text = frozen_model.tokenizer.decode(
        frozen_model.prompt_ids(
            2, [("user", "Which?"), ("assistant", "Both."), ("user", "Sure?")]
        )
    )
    assert text.splitlines() == [
        "Picture 1 shows<image>.",
        "Picture 2 shows<image>.",
        "Question: Which?",
        "Answer: Both.",
        "Question: Sure?",
        "Answer:",
    ]


def test_answers_equal_greedy_decoding_without_a_cache(
    frozen_model: SummaryLvlm, generator: LvlmGenerator, tokens: list[np.ndarray]
) -> None:
    conversation = ask("What is in the image?", "A cat.", "And what else?")
    written: list[int] = []
    prompt = frozen_model.second_pass_prompt(
        [[torch.from_numpy(each) for each in tokens[:2]]],
        [[(turn.role, turn.text) for turn in conversation]],
    )
    with torch.inference_mode(), frozen_model.adapters.use("second_pass"):
        for _ in range(6):
            words = frozen_model.embedding(torch.tensor([written], dtype=torch.long))
            logits = frozen_model.base(
                inputs_embeds=torch.cat([prompt.inputs_embeds, words], dim=1)
            ).logits
            written.append(int(logits[0, -1].argmax()))
    pieces = list(
        generator.generate(
            [GenerationRequest(tokens[:2], conversation)], [GenerationLimits(6)]
        )
    )
    until = (
        written.index(frozen_model.end_ids[0])
        if frozen_model.end_ids[0] in written
        else len(written)
    )
    assert pieces[-1].completion_tokens == until
    whole = frozen_model.tokenizer.decode(written[:until]).lstrip()
    heard = "".join(piece.text for piece in pieces)
    assert whole.rstrip("�") == heard.rstrip("�")
    assert pieces[0].prompt_tokens == prompt.lengths[0]


def test_a_short_question_beside_a_long_one_is_answered_as_alone(
    generator: LvlmGenerator, tokens: list[np.ndarray]
) -> None:
    requests = [
        GenerationRequest(tokens[:1], ask("why?")),
        GenerationRequest(tokens[1:], ask("and " * 60 + "?", "no", "why?")),
    ]
    limits = [GenerationLimits(10), GenerationLimits(7)]

    def answered(*which: int) -> list[Piece]:
        pieces = generator.generate(
            [requests[number] for number in which], [limits[number] for number in which]
        )
        # Without those that come while the prompts are read, of which there are more together.
        return [piece for piece in pieces if piece.completion_tokens]

    together = answered(0, 1)
    for number in range(len(requests)):
        alone = answered(number)
        mine = [piece for piece in together if piece.request == number]
        assert [
            (p.text, p.completion_tokens, p.finish_reason, p.prompt_tokens)
            for p in mine
        ] == [
            (p.text, p.completion_tokens, p.finish_reason, p.prompt_tokens)
            for p in alone
        ]


def test_an_answer_stops_at_the_end_token(
    frozen_model: SummaryLvlm,
    tokens: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompt = frozen_model.second_pass_prompt(
        [[torch.from_numpy(tokens[0])]], [[("user", "What is it?")]]
    )
    with torch.inference_mode(), frozen_model.adapters.use("second_pass"):
        logits = frozen_model.base(inputs_embeds=prompt.inputs_embeds).logits[0, -1]
        probability, first = map(float, logits.softmax(-1).max(-1))
    monkeypatch.setitem(frozen_model.__dict__, "end_ids", (int(first),))
    generator = LvlmGenerator(frozen_model)
    pieces = list(
        generator.generate(
            [GenerationRequest(tokens[:1], ask("What is it?"))], [GenerationLimits(9)]
        )
    )
    (piece,) = pieces
    mean_probability = pytest.approx(probability, rel=1e-4)
    assert piece == Piece(0, "", prompt.lengths[0], 0, "stop", mean_probability)


def test_an_answer_has_the_mean_probability_of_its_tokens(
    frozen_model: SummaryLvlm, generator: LvlmGenerator, tokens: list[np.ndarray]
) -> None:
    """Against a whole forward pass for every token, beside a second request."""
    images = [[torch.from_numpy(tokens[0])]]
    prompt = frozen_model.second_pass_prompt(images, [[("user", "What is it?")]])
    embeddings = prompt.inputs_embeds
    logs: list[float] = []
    with torch.inference_mode(), frozen_model.adapters.use("second_pass"):
        while len(logs) < 5:
            logits = frozen_model.base(inputs_embeds=embeddings).logits[0, -1]
            best, token = logits.log_softmax(-1).max(-1)
            logs.append(float(best))
            if int(token) in frozen_model.end_ids:
                break
            word = frozen_model.embedding(token.reshape(1, 1))
            embeddings = torch.cat([embeddings, word], dim=1)
    request = GenerationRequest(tokens[:1], ask("What is it?"))
    other = GenerationRequest(tokens[1:2], ask("and " * 9 + "why?"))
    pieces = generator.generate([request, other], [GenerationLimits(5)] * 2)
    last = [piece for piece in pieces if piece.request == 0][-1]
    expected = np.exp(np.mean(logs))
    assert last.mean_probability == pytest.approx(expected, rel=1e-3)


def test_each_request_has_its_own_limit(
    generator: LvlmGenerator, tokens: list[np.ndarray]
) -> None:
    requests = [GenerationRequest(tokens[:1], ask("What is it?"))] * 3
    last = {
        p.request: p
        for p in generator.generate(requests, [GenerationLimits(n) for n in (1, 5, 3)])
    }
    counts = {n: piece.completion_tokens for n, piece in last.items()}
    assert all(
        counts[n] == limit or last[n].finish_reason == "stop"
        for n, limit in enumerate((1, 5, 3))
    )
    assert counts[0] == 1


def test_nothing_asked_nothing_answered(generator: LvlmGenerator) -> None:
    pieces = generator.generate([], [])
    assert list(pieces) == []
    pieces.close()


def test_prompt_and_answer_must_fit_the_context_together(
    frozen_model: SummaryLvlm, generator: LvlmGenerator, tokens: list[np.ndarray]
) -> None:
    request = GenerationRequest(tokens[:1], ask("What is it?"))
    length = len(frozen_model.prompt_ids(1, [("user", "What is it?")])) - 1 + 8
    fits = generator.generate([request], [GenerationLimits(CONTEXT_TOKENS - length)])
    assert next(fits).prompt_tokens == length
    fits.close()
    with pytest.raises(RequestTooLong, match=str(CONTEXT_TOKENS + 1)):
        generator.generate([request], [GenerationLimits(CONTEXT_TOKENS - length + 1)])


def test_visual_vectors_are_what_stands_at_the_image_in_the_models_own_prompt(
    frozen_model: SummaryLvlm,
) -> None:
    images = pictures()
    with torch.no_grad():
        found = frozen_model.visual_vectors(images)
        own = frozen_model.base.get_image_features(
            frozen_model.first_pass_inputs(images)["pixel_values"]
        ).pooler_output
    torch.testing.assert_close(found, own)


def test_a_second_pass_over_all_visual_tokens_is_the_models_own(
    frozen_model: SummaryLvlm,
) -> None:
    images, question = pictures()[:2], [("user", "What is in the image?")]
    with torch.no_grad():
        prompt = frozen_model.uncompressed_prompt([[i] for i in images], [question] * 2)
        vectors = frozen_model.visual_vectors(images)
        assembled = frozen_model.second_pass_prompt(
            [[v] for v in vectors], [question] * 2
        )
    torch.testing.assert_close(prompt.inputs_embeds, assembled.inputs_embeds)
    assert prompt.lengths == assembled.lengths
    assert torch.equal(prompt.position_ids, assembled.position_ids)


def test_a_picture_of_any_shape_is_squeezed_to_the_towers_square(
    frozen_model: SummaryLvlm,
) -> None:
    inputs = frozen_model.first_pass_inputs(
        [Image.new("RGB", (300, 20), "blue"), Image.new("RGB", (1, 1))]
    )
    assert inputs["pixel_values"].shape == (2, 3, 64, 64)
