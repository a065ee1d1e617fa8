"""What every generator promises. An adapter's test class derives from this one and says how it is
made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator as IteratorWithClose
from itertools import zip_longest
from typing import Any

import jsonschema
import numpy as np
import pytest

from compressor.errors import ConstraintInvalid, RequestTooLong
from compressor.ports import (
    Choice,
    Constraint,
    GenerationLimits,
    GenerationRequest,
    Generator,
    JsonSchema,
    Number,
    SummaryModel,
    Turn,
)
from tests.conformance.summary_model_suite import pictures

COLOUR = {"type": "string", "enum": ["red", "blue"]}
SCHEMAS: list[dict[str, Any]] = [
    {"type": "boolean"},
    COLOUR,
    {
        "type": "object",
        "properties": {"colour": COLOUR, "big": {"type": "boolean"}},
        "required": ["colour", "big"],
        "additionalProperties": False,
    },
    {"type": "array", "items": COLOUR, "minItems": 1, "maxItems": 2},
]


class GeneratorSuite:
    @classmethod
    def make(cls) -> tuple[SummaryModel, Generator]:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls) -> tuple[SummaryModel, Generator]:
        return cls.make()

    @pytest.fixture(scope="class")
    @classmethod
    def generator(cls, made: tuple[SummaryModel, Generator]) -> Generator:
        return made[1]

    @pytest.fixture(scope="class")
    @classmethod
    def requests(cls, made: tuple[SummaryModel, Generator]) -> list[GenerationRequest]:
        """About one image, about several, and with an earlier turn."""
        tokens = list(made[0].compress(pictures()[:3]).tokens)
        question = Turn("user", "What is in the image?")
        return [
            GenerationRequest(tokens[:1], [question]),
            GenerationRequest(tokens, [Turn("user", "Which colours are there?")]),
            GenerationRequest(
                tokens[1:2],
                [
                    question,
                    Turn("assistant", "A gradient."),
                    Turn("user", "Are you sure?"),
                ],
            ),
        ]

    def test_every_answer_ends_once_and_says_why(
        self, generator: Generator, requests: list[GenerationRequest]
    ) -> None:
        limits = [GenerationLimits(max_tokens=n) for n in (12, 3, 8)]
        pieces = list(generator.generate(requests, limits))
        for number, limit in enumerate(limits):
            mine = [piece for piece in pieces if piece.request == number]
            assert [piece.finish_reason is not None for piece in mine] == [False] * (
                len(mine) - 1
            ) + [True]
            counts = [piece.completion_tokens for piece in mine]
            assert counts == sorted(counts)
            assert counts[-1] <= limit.max_tokens
            assert (mine[-1].finish_reason == "length") <= (
                counts[-1] == limit.max_tokens
            )
            assert len({piece.prompt_tokens for piece in mine}) == 1
            assert mine[0].prompt_tokens > 0
            # A generator may not know probabilities, but then it knows none. Pieces that come while
            # the prompt is read are no part of the answer.
            written = [piece for piece in mine if piece.completion_tokens]
            probabilities = [piece.mean_probability for piece in written]
            assert all(p is not None and 0 < p <= 1 for p in probabilities) or not any(
                probabilities
            )

    def test_the_same_requests_give_the_same_answers(
        self, generator: Generator, requests: list[GenerationRequest]
    ) -> None:
        assert texts(generator, requests) == texts(generator, requests)

    def test_requests_together_get_what_they_get_alone(
        self, generator: Generator, requests: list[GenerationRequest]
    ) -> None:
        assert texts(generator, requests) == [
            texts(generator, [request])[0] for request in requests
        ]

    def test_images_may_have_fewer_tokens_than_others(
        self, generator: Generator, requests: list[GenerationRequest]
    ) -> None:
        first, second, third = requests[1].images
        mixed = GenerationRequest(
            [first[:1], second, third[:-1]], requests[1].conversation
        )
        last = {
            each.request: each
            for each in generator.generate(
                [requests[1], mixed], [GenerationLimits(4)] * 2
            )
        }
        assert last[0].prompt_tokens - last[1].prompt_tokens == len(first) - 1 + 1
        assert texts(generator, [*requests, mixed])[-1] == texts(generator, [mixed])[0]

    def test_answers_are_not_empty(
        self, generator: Generator, requests: list[GenerationRequest]
    ) -> None:
        assert all(text.strip() for text in texts(generator, requests))

    def test_a_closed_iterator_stops_and_leaves_the_generator_usable(
        self, generator: Generator, requests: list[GenerationRequest]
    ) -> None:
        pieces = generator.generate(requests, [GenerationLimits()] * len(requests))
        next(pieces)
        assert isinstance(pieces, IteratorWithClose)
        pieces.close()
        assert next(pieces, None) is None
        assert texts(generator, requests[:1])[0]

    def test_two_iterators_may_be_read_in_turn(
        self, generator: Generator, requests: list[GenerationRequest]
    ) -> None:
        expected = texts(generator, requests)
        iterators = [
            generator.generate([request], [GenerationLimits(max_tokens=8)])
            for request in requests
        ]
        heard = [""] * len(requests)
        for round_of_pieces in zip_longest(*iterators):
            for number, piece in enumerate(round_of_pieces):
                heard[number] += "" if piece is None else piece.text
        assert heard == expected

    def test_first_passes_between_two_pieces_change_nothing(
        self, made: tuple[SummaryModel, Generator], requests: list[GenerationRequest]
    ) -> None:
        model, generator = made
        expected, tokens = (
            texts(generator, requests[:1])[0],
            model.compress(pictures()).tokens,
        )
        heard = ""
        for piece in generator.generate(requests[:1], [GenerationLimits(max_tokens=8)]):
            heard += piece.text
            np.testing.assert_array_equal(model.compress(pictures()).tokens, tokens)
            model.embed_text(["a red square"])
        assert heard == expected

    def test_a_question_that_does_not_fit_is_refused(
        self, generator: Generator, requests: list[GenerationRequest]
    ) -> None:
        endless = GenerationRequest(requests[0].images, [Turn("user", "why " * 50_000)])
        with pytest.raises(RequestTooLong):
            list(generator.generate([endless], [GenerationLimits()]))

    def test_a_prompt_over_its_own_limit_is_refused_before_the_first_piece(
        self, generator: Generator, requests: list[GenerationRequest]
    ) -> None:
        answered = generator.generate(requests[:1], [GenerationLimits()])
        prompt_tokens = [piece.prompt_tokens for piece in answered][-1]
        exact = GenerationLimits(max_prompt_tokens=prompt_tokens)
        assert list(generator.generate(requests[:1], [exact]))
        short = GenerationLimits(max_prompt_tokens=prompt_tokens - 1)
        with pytest.raises(RequestTooLong, match=str(prompt_tokens)):
            list(generator.generate(requests[:1], [short]))


class AnswerFormSuite:
    """Answers in a form: for generators whose tokenizer can write any text."""

    @classmethod
    def make_constrained(cls) -> tuple[SummaryModel, Generator]:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def constrained(cls) -> tuple[SummaryModel, Generator]:
        return cls.make_constrained()

    def formed(
        self,
        made: tuple[SummaryModel, Generator],
        *constraints: Constraint | None,
        max_tokens: int = 60,
    ) -> list[tuple[str, str]]:
        """The answers under these constraints, together, and why they ended."""
        (tokens,) = made[0].compress(pictures()[:1]).tokens
        turn = Turn("user", "Why?")
        requests = [
            GenerationRequest([tokens], [turn], constraint)
            for constraint in constraints
        ]
        answers = [""] * len(requests)
        reasons = [""] * len(requests)
        limits = [GenerationLimits(max_tokens)] * len(requests)
        for piece in made[1].generate(requests, limits):
            answers[piece.request] += piece.text
            reasons[piece.request] = piece.finish_reason or ""
            assert piece.mean_probability is None or 0 <= piece.mean_probability <= 1
        return list(zip(answers, reasons, strict=True))

    def test_an_answer_is_one_of_the_choices(
        self, constrained: tuple[SummaryModel, Generator]
    ) -> None:
        for options in (("Yes", "No"), ('say "é"\\n', "ünï"), ("a", "ab")):
            ((text, reason),) = self.formed(constrained, Choice(options))
            assert text in options
            assert reason == "stop"

    def test_an_answer_is_a_number(
        self, constrained: tuple[SummaryModel, Generator]
    ) -> None:
        ((text, reason),) = self.formed(constrained, Number())
        assert re.fullmatch(r"-?\d{1,15}(\.\d{1,6})?", text)
        assert reason == "stop"

    @pytest.mark.parametrize("schema", SCHEMAS, ids=str)
    def test_an_answer_is_json_of_the_schema(
        self,
        constrained: tuple[SummaryModel, Generator],
        schema: dict[str, Any],
    ) -> None:
        constraint = JsonSchema(json.dumps(schema))
        ((text, reason),) = self.formed(constrained, constraint)
        assert reason == "stop"
        jsonschema.validate(json.loads(text), schema)

    def test_a_constraint_does_not_touch_the_others(
        self, constrained: tuple[SummaryModel, Generator]
    ) -> None:
        constraints = (Choice(("Yes", "No")), None, Number())
        together = self.formed(constrained, *constraints, max_tokens=24)
        alone = [
            self.formed(constrained, constraint, max_tokens=24)[0]
            for constraint in constraints
        ]
        assert together == alone

    def test_a_form_that_is_cut_off_says_so(
        self, constrained: tuple[SummaryModel, Generator]
    ) -> None:
        choice = Choice(("a long answer of many words",))
        ((text, reason),) = self.formed(constrained, choice, max_tokens=1)
        assert reason == "length"
        assert choice.options[0].startswith(text)

    @pytest.mark.parametrize(
        "schema",
        [
            "text", "[1]", '{"type": "banana"}', '{"$ref": "https://a/b"}', '{"$ref": "#"}',
            '{"enum": []}',
        ],
    )  # fmt: skip
    def test_what_is_no_schema_is_refused_before_the_first_piece(
        self, constrained: tuple[SummaryModel, Generator], schema: str
    ) -> None:
        with pytest.raises(ConstraintInvalid):
            self.formed(constrained, JsonSchema(schema))


def texts(generator: Generator, requests: list[GenerationRequest]) -> list[str]:
    """The answers of at most 8 tokens."""
    limits = [GenerationLimits(max_tokens=8)] * len(requests)
    answers = [""] * len(requests)
    for piece in generator.generate(requests, limits):
        answers[piece.request] += piece.text
    return answers
