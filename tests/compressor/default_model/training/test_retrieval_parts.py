"""The retrieval head's parts that learn from texts: sentences in closed form, names from made-up
pictures.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from compressor.default_model.retrieval_head import PartedHead
from compressor.default_model.training.retrieval_parts import (
    FitConfig,
    Names,
    Sentences,
    States,
    fit,
    fit_names,
    fit_sentences,
    nearest_nouns,
)
from compressor.fwd2bot.config import EmbeddingPart

D, K, S = 12, 6, 8  # hidden size, summary positions, the teacher's size
PARTS = (
    EmbeddingPart(size=8),
    EmbeddingPart(positions=(5,), layers=(0,), size=6),
    EmbeddingPart(
        pools=4,
        positions=(0, 1, 2, 3),
        layers=(0,),
        size=24,
    ),
)


def head_with_statistics(images: Tensor, texts: Tensor) -> PartedHead:
    head = PartedHead((0, -1), D, 38, K, PARTS)
    head.fit_statistics(images, texts)
    return head


def part_states(images: Tensor) -> Tensor:
    """What the part for sentences reads: one position and layer."""
    return images[:, 5, :D]


def test_a_sentence_finds_the_picture_whose_captions_mean_the_same() -> None:
    torch.manual_seed(1)
    # A text's meaning is linear in its words; a picture's state is the mean token embedding of its
    # captions, longer, and away from zero.
    meaning = torch.cat([torch.randn(D, S), torch.zeros(D, S)])
    texts = torch.randn(400, 2 * D)
    photos = texts[:40]
    words = photos[:, :D]
    images = torch.randn(40, K, 2 * D)
    images[:, 5, :D] = 3 * words + 0.7
    head = head_with_statistics(images, texts)
    sentences = Sentences(
        texts,
        torch.ones(400),
        texts @ meaning,
        words,
        photos @ meaning,
        part_states(images),
    )
    fit_sentences(head, 1, sentences)
    image_part = head.image_parts(images)[1]
    text_part = head.text_parts(texts[:40])[1]
    first = (text_part @ image_part.T).argmax(1)
    assert (first == torch.arange(40)).float().mean() > 0.9


def test_a_photograph_described_out_of_fold_is_mapped_alike() -> None:
    torch.manual_seed(2)
    words, captions = torch.randn(10, D), torch.randn(10, S)
    images = torch.randn(10, K, 2 * D)
    texts = torch.randn(50, 2 * D)
    head = head_with_statistics(images, texts)
    sentences = Sentences(
        texts,
        torch.ones(50),
        torch.randn(50, S),
        words,
        captions,
        part_states(images),
    )
    fit_sentences(head, 1, sentences)
    # A linear head predicts of captions a mixture of captions.
    shares = torch.rand(10) / 10
    state = images[:1].clone()
    state[0, 5, :D] = shares @ (words - words.mean(0)) + part_states(images).mean(0)
    centred = captions - captions.mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False)[2][:6]
    expected = torch.nn.functional.normalize((shares @ centred) @ directions.T, dim=0)
    assert torch.allclose(head.image_parts(state)[1][0], expected, atol=2e-3)


def test_a_text_of_weight_two_counts_like_two_texts() -> None:
    torch.manual_seed(4)
    texts, teacher_embeddings = torch.randn(50, 2 * D), torch.randn(50, S)
    words, captions = torch.randn(10, D), torch.randn(10, S)
    images = torch.randn(10, K, 2 * D)

    def embedded(rows: Tensor, weights: Tensor) -> Tensor:
        head = head_with_statistics(images, texts)
        sentences = Sentences(
            texts[rows],
            weights,
            teacher_embeddings[rows],
            words,
            captions,
            part_states(images),
        )
        fit_sentences(head, 1, sentences)
        return head.text_parts(texts)[1]

    weights = torch.ones(50)
    weights[:10] = 2
    weighted = embedded(torch.arange(50), 100 * weights)
    repeated = embedded(torch.arange(60) % 50, torch.ones(60))
    # The penalty is that of as many texts as there are, whatever the weights: of 50 here, and of
    # 60.
    assert torch.nn.functional.cosine_similarity(weighted, repeated).min() > 0.99


def names(count: int, states_of: Tensor) -> Names:
    tokens = torch.randn(count, 4, D)
    flat = tokens.flatten(1)
    states = flat @ states_of
    offsets = torch.full((4, D), 0.5)
    return Names(
        tokens,
        nearest_nouns(flat),
        states,
        offsets,
        tokens[:20] + offsets,
        states[:20],
    )


def test_a_name_finds_its_picture_without_any_picture_of_it_in_training() -> None:
    torch.manual_seed(3)
    states_of = torch.randn(4 * D, 2 * D) / 7
    trained = names(400, states_of)
    unseen = torch.randn(30, 4, D)
    images = torch.zeros(30, K, 2 * D)
    images[:, :4, :D] = unseen + 0.5
    head = head_with_statistics(
        images + 0.01 * torch.randn_like(images), trained.states
    )
    fit_names(
        head,
        2,
        trained,
        FitConfig(steps=300, batch_size=128),
    )
    image_part = head.image_parts(images)[2]
    text_part = head.text_parts(unseen.flatten(1) @ states_of)[2]
    first = (text_part @ image_part.T).argmax(1)
    assert (first == torch.arange(30)).float().mean() > 0.6


def test_the_same_seed_fits_the_same_names() -> None:
    torch.manual_seed(4)
    trained = names(60, torch.randn(4 * D, 2 * D))
    weights = []
    for _ in range(2):
        torch.manual_seed(5)
        head = head_with_statistics(torch.randn(9, K, 2 * D), trained.states)
        fit_names(
            head,
            2,
            trained,
            FitConfig(steps=3, batch_size=40),
        )
        weights.append(head.parts[2].image.weight.detach().clone())
    assert torch.equal(*weights)


def test_fitted_parts_stay_while_the_rest_is_trained() -> None:
    torch.manual_seed(6)
    images, texts = torch.randn(30, K, 2 * D), torch.randn(30, 2 * D)
    head = head_with_statistics(images, texts)
    before = copy.deepcopy(head.state_dict())
    states = States(images, texts, torch.arange(30))
    fit(
        head,
        states,
        FitConfig(steps=5, batch_size=16),
        fitted=(1, 2),
    )
    after = head.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert not any(name.startswith(("parts.1", "parts.2")) for name in changed)
    assert {"parts.0.image.weight", "parts.0.text.weight", "gate.weight"} <= changed
    assert all(parameter.requires_grad for parameter in head.parameters())


def test_queries_move_the_gate_alone() -> None:
    torch.manual_seed(7)
    images, texts = torch.randn(60, K, 2 * D), torch.randn(61, 2 * D)
    owners = torch.cat([torch.arange(60), torch.tensor([-1])])
    untrained = head_with_statistics(images, texts[:60])
    config = FitConfig(steps=20, batch_size=16)
    plain, with_queries = copy.deepcopy(untrained), copy.deepcopy(untrained)
    fit(
        plain,
        States(images, texts, owners),
        config,
        fitted=(1, 2),
    )
    fit(
        with_queries,
        States(images, texts, owners, queries=[[60]] * 60),
        config,
        fitted=(1, 2),
    )
    for name, value in plain.state_dict().items():
        same = torch.equal(value, with_queries.state_dict()[name])
        assert same == (not name.startswith("gate."))
