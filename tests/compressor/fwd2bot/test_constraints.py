"""Options of a choice in the words of a model that answers in sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.fwd2bot.answer_writer import AnswerWriter
from compressor.fwd2bot.constraints import ConstraintCompiler, choice_forms
from compressor.fwd2bot.model import SummaryLvlm
from compressor.ports import Choice, GenerationLimits, Number


@pytest.mark.parametrize(
    ("option", "forms"),
    [
        ("cat", {"cat", "cat.", "Cat", "Cat.", "A cat", "A cat.", "The cat", "The cat."}),
        ("an owl", {"an owl", "owl.", "An owl.", "The owl"}),
        ("In the snow.", {"In the snow.", "In the snow"}),
        ("B", {"B", "B."}),
        ("42", {"42", "42."}),
    ],
)  # fmt: skip
def test_an_option_is_named_with_and_without_article_capital_and_full_stop(
    option: str, forms: set[str]
) -> None:
    found = choice_forms(Choice((option,)))
    assert forms <= found.keys()
    assert set(found.values()) == {option}


def test_letters_and_names_have_no_article() -> None:
    found = choice_forms(Choice(("a", "B", "New York")))
    assert not any(form.startswith(("A ", "The ")) for form in found)


def test_only_choices_have_forms() -> None:
    assert choice_forms(Number()) == {}


@given(st.lists(st.text(min_size=1), min_size=1, unique=True))
def test_an_option_stands_for_itself(options: list[str]) -> None:
    forms = choice_forms(Choice(tuple(options)))
    assert {option: forms[option] for option in options} == dict(
        zip(options, options, strict=True)
    )
    assert set(forms.values()) == set(options)
    assert all(forms)


def written(
    model: SummaryLvlm, said: str, options: tuple[str, ...], max_tokens: int = 32
) -> tuple[list[str], str | None]:
    """The pieces of an answer whose tokens are those of `said`, and why it ended."""
    end = model.end_ids[0]
    vocabulary = model.embedding.words.num_embeddings
    compiler = ConstraintCompiler(model.backend_tokenizer, vocabulary, model.end_ids)
    writer = AnswerWriter(
        model.backend_tokenizer,
        frozenset(model.end_ids),
        0,
        GenerationLimits(max_tokens),
        compiler(Choice(options)),
    )
    texts = []
    for token in [*model.tokenizer(said, add_special_tokens=False)["input_ids"], end]:
        texts.append(writer.write(token, 0.0))
        if writer.finish_reason:
            break
    return texts, writer.finish_reason


@pytest.mark.parametrize("said", ["A cat.", "A cat", "cat", "The cat."])
def test_the_answer_is_the_option_as_the_caller_wrote_it(
    frozen_model: SummaryLvlm, said: str
) -> None:
    texts, reason = written(frozen_model, said, ("dog", "cat"))
    assert (texts[-1], reason) == ("cat", "stop")
    assert set(texts[:-1]) <= {""}


def test_an_option_that_is_whole_at_the_limit_is_not_cut_off(
    frozen_model: SummaryLvlm,
) -> None:
    option = "a cat that is asleep on the roof"
    ids = frozen_model.tokenizer(option, add_special_tokens=False)["input_ids"]
    texts, reason = written(frozen_model, option, (option,), len(ids))
    assert (texts[-1], reason) == (option, "stop")
    texts, reason = written(frozen_model, option, (option,), len(ids) - 1)
    assert ("".join(texts), reason) == ("", "length")
