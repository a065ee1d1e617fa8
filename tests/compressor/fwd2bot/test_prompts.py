"""Prompts and training conversations, token for token what the chat template gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import LlavaProcessor, PreTrainedTokenizerFast, ProcessorMixin
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from compressor.errors import ConversationInvalid
from compressor.fwd2bot.prompts import PromptRenderer
from tests.compressor.production import CHATML, USER_ASSISTANT
from tests.compressor.tiny import tiny_tokenizer

CHATML_IMAGE = CHATML.replace("PLACEHOLDER", "<image>")
# As LLaVA-1.5's on the hub: a space behind every text, no end of turn.
LLAVA = """\
{%- for message in messages -%}
{{ message.role.upper() + ': ' }}
{%- for part in message.content if part.type == 'image' -%}{{ '<image>\n' }}{%- endfor -%}
{%- for part in message.content if part.type == 'text' -%}{{ part.text + ' ' }}{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif -%}"""
# As Llama 3's: a start of the text, a token that ends each turn.
LLAMA3 = """\
{%- for message in messages -%}
{%- if loop.first %}{{ '<s>' }}{% endif -%}
{{ '[' + message.role + ']\n' }}
{%- for part in message.content -%}
{%- if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif -%}
{%- endfor -%}
{{ '<|eot|>' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '[assistant]\n' }}{% endif -%}"""

TURNS = [
    ("user", "What is in the image?"),
    ("assistant", "A cat."),
    ("user", "Sure?"),
    ("assistant", "Yes, two red apples"),
]


def sentencepiece(*, prepends: bool) -> PreTrainedTokenizerFast:
    """Characters and a few words as LLaMA's tokenizer has them: `▁` opens a word, and the first
    word of any text gets one where `prepends`.
    """
    words = [
        "<unk>",
        "<s>",
        "</s>",
        "<image>",
        "<|eot|>",
        "▁",
        "▁A",
        "▁cat",
        "▁cat.",
        "▁two",
        "\n",
    ]
    words += [chr(code) for code in range(33, 127)]
    pairs = [
        ("▁", "A"),
        ("c", "a"),
        ("ca", "t"),
        ("▁", "cat"),
        ("▁cat", "."),
        ("t", "w"),
    ]
    pairs += [("tw", "o"), ("▁", "two")]
    words += ["ca", "cat", "tw", "two"]
    tokenizer = Tokenizer(
        models.BPE(
            {word: number for number, word in enumerate(words)},
            pairs,
            unk_token="<unk>",
        )
    )
    spaces = normalizers.Replace(" ", "▁")
    steps = [normalizers.Prepend("▁"), spaces] if prepends else [spaces]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Replace("▁", " ")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
        additional_special_tokens=["<image>", "<|eot|>"],
    )


def words_only() -> PreTrainedTokenizerFast:
    """Whole words, as some small models have them."""
    words = [
        "<unk>",
        "</s>",
        "<image>",
        "<|im_start|>",
        "<|im_end|>",
        "cat.",
        "A",
        "user",
    ]
    tokenizer = Tokenizer(
        models.WordLevel(
            {word: number for number, word in enumerate(words)}, unk_token="<unk>"
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
        additional_special_tokens=["<image>", "<|im_start|>", "<|im_end|>"],
    )


def processor(tokenizer: PreTrainedTokenizerFast, template: str) -> ProcessorMixin:
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=template,
        image_token="<image>",
    )


KINDS: dict[str, Callable[[], ProcessorMixin]] = {
    "bytes, ChatML": lambda: processor(
        tiny_tokenizer("<image>", "<|im_start|>", "<|im_end|>"), CHATML_IMAGE
    ),
    "bytes, plain": lambda: processor(tiny_tokenizer("<image>"), USER_ASSISTANT),
    "LLaMA, LLaVA-1.5": lambda: processor(sentencepiece(prepends=True), LLAVA),
    "LLaMA without a prefix": lambda: processor(sentencepiece(prepends=False), LLAVA),
    "LLaMA 3": lambda: processor(sentencepiece(prepends=False), LLAMA3),
    "words": lambda: processor(words_only(), CHATML_IMAGE),
}


@pytest.fixture(params=KINDS, ids=str)
def renderer(request: pytest.FixtureRequest) -> PromptRenderer:
    made = KINDS[request.param]()
    return PromptRenderer(made, made.tokenizer.convert_tokens_to_ids("<image>"))


def end_id(renderer: PromptRenderer) -> int:
    return renderer.end_of_turn_id or renderer.tokenizer.eos_token_id


def by_the_template(
    renderer: PromptRenderer, turns: list[tuple[str, str]], add_generation_prompt: bool
) -> list[int]:
    """The tokenizer's own call; the processor's puts many placeholders in the place of one."""
    template = renderer.processor.chat_template
    ids = renderer.tokenizer.apply_chat_template(
        renderer.messages(1, turns),
        chat_template=template,
        add_generation_prompt=add_generation_prompt,
        tokenize=True,
        return_dict=False,
    )
    # A processor adds the start that its template lacks, a tokenizer leaves it to the template.
    start = renderer.tokenizer("")["input_ids"]
    return list(ids) if "<s>" in template else [*start, *ids]


def test_a_prompt_is_what_the_chat_template_gives(renderer: PromptRenderer) -> None:
    for turns in (TURNS[:1], TURNS[:3]):
        assert renderer.prompt_ids(1, turns) == by_the_template(
            renderer, turns, add_generation_prompt=True
        )


def test_a_text_prompt_is_what_the_processor_gives(renderer: PromptRenderer) -> None:
    messages = renderer.messages(0, TURNS[:3])
    expected = renderer.processor.apply_chat_template(
        [messages], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    assert [renderer.prompt_ids(0, TURNS[:3])] == list(map(list, expected["input_ids"]))


def test_a_conversation_is_what_the_chat_template_gives(
    renderer: PromptRenderer,
) -> None:
    made = renderer.conversation(1, TURNS, end_id(renderer))
    whole = by_the_template(renderer, TURNS, add_generation_prompt=False)
    closed = renderer.end_of_turn_id is not None
    length = len(made.ids) if closed else len(made.ids) - 1
    assert made.ids[:length] == whole[:length]
    assert made.ids[-1] == end_id(renderer)
    rest = renderer.tokenizer.decode(whole[length:])
    assert not rest.strip()


def test_answers_stand_behind_the_prompts_that_serving_reads(
    renderer: PromptRenderer,
) -> None:
    made = renderer.conversation(1, TURNS, end_id(renderer))
    assert len(made.answers) == 2
    for number, span in zip((1, 3), made.answers, strict=True):
        assert made.ids[: span.start] == renderer.prompt_ids(1, TURNS[:number])
        answer = made.ids[span.start : span.stop]
        if made.answers[-1] == span or renderer.end_of_turn_id is not None:
            assert answer[-1] == end_id(renderer)
            answer = answer[:-1]
        assert (
            len(set(answer) & set(renderer.tokenizer.all_special_ids)) <= 1
        )  # unknown words
        if renderer.tokenizer.unk_token_id not in answer:
            assert renderer.tokenizer.decode(answer).strip() == TURNS[number][1]


def test_an_answer_starts_with_its_first_word_and_no_loose_space() -> None:
    made = KINDS["LLaMA, LLaVA-1.5"]()
    renderer = PromptRenderer(made, made.tokenizer.convert_tokens_to_ids("<image>"))
    conversation = renderer.conversation(1, TURNS[:2], made.tokenizer.eos_token_id)
    (span,) = conversation.answers
    tokens = made.tokenizer.convert_ids_to_tokens(conversation.ids[span.start :])
    assert tokens == ["▁A", "▁cat.", "</s>"]
    apart = made.tokenizer(" A cat.", add_special_tokens=False)["input_ids"]
    assert made.tokenizer.convert_ids_to_tokens(apart)[0] == "▁"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no assistants here') }}", "no assistants here"),
        (
            "{%- for m in messages if m.role == 'user' %}{{ m.content[-1].text }}{% endfor %}",
            "leaves out",
        ),
        (LLAVA.replace("'ASSISTANT:'", "'ASSISTANT: <think>'"), "otherwise"),
    ],
)  # fmt: skip
def test_a_template_without_answers_is_one_line(template: str, message: str) -> None:
    made = processor(tiny_tokenizer("<image>"), template)
    renderer = PromptRenderer(made, made.tokenizer.convert_tokens_to_ids("<image>"))
    with pytest.raises(ConversationInvalid, match=message) as raised:
        renderer.conversation(1, TURNS, 0)
    assert "\n" not in str(raised.value)


def test_a_conversation_ends_with_an_answer(renderer: PromptRenderer) -> None:
    for turns in ([], TURNS[:3]):
        with pytest.raises(ConversationInvalid, match="last turn"):
            renderer.conversation(1, turns, 0)
