"""The parts of the retrieval head that are learnt from texts: sentences in closed form, names from
made-up pictures.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from compressor.default_model.retrieval_head import PartedHead
from compressor.default_model.training.retrieval_parts import (
    Names,
    Sentences,
    States,
    alike,
    fit,
    fit_names,
    fit_sentences,
)
from compressor.fwd2bot.config import EmbeddingPart

D, K, S = 12, 6, 8  # hidden size, summary positions, the teacher's size
PARTS = (
    EmbeddingPart(size=8),
    EmbeddingPart(positions=(5,), layers=(0,), size=6),
    EmbeddingPart(pools=4, positions=(0, 1, 2, 3), layers=(0,), size=24),
)


def head_with_statistics(images: Tensor, texts: Tensor) -> PartedHead:
    head = PartedHead((0, -1), D, 38, K, PARTS)
    head.fit_statistics(images, texts)
    return head


def test_a_sentence_finds_the_picture_whose_captions_mean_the_same() -> None:
    torch.manual_seed(1)
    # What a text means is linear in its words; a picture's state is the mean token embedding of its
    # captions.
    means = torch.cat([torch.randn(D, S), torch.zeros(D, S)])
    texts = torch.randn(400, 2 * D)
    taught = texts @ means
    photos = texts[:40]
    images = torch.randn(40, K, 2 * D)
    images[:, 5, :D] = 3 * photos[:, :D] + 0.7  # longer, and away from zero
    head = head_with_statistics(images, texts)
    fit_sentences(
        head,
        1,
        Sentences(texts, torch.ones(400), taught, photos[:, :D], photos @ means, images[:, 5, :D]),
    )
    seen, read = head.image_parts(images)[1], head.text_parts(texts)[1]
    assert ((read[:40] @ seen.T).argmax(1) == torch.arange(40)).float().mean() > 0.9


def test_a_photograph_seen_through_heads_that_never_saw_it_is_mapped_alike() -> None:
    torch.manual_seed(2)
    words, captions = torch.randn(10, D), torch.randn(10, S)
    images = torch.randn(10, K, 2 * D)
    texts = torch.randn(50, 2 * D)
    head = head_with_statistics(images, texts)
    fit_sentences(
        head,
        1,
        Sentences(texts, torch.ones(50), torch.randn(50, S), words, captions, images[:, 5, :D]),
    )
    shares = torch.rand(10) / 10  # what a linear head expects of captions is a mixture of captions
    offset = images[:, 5, :D].mean(0)
    state = images[:1].clone()
    state[0, 5, :D] = shares @ (words - words.mean(0)) + offset
    directions = torch.linalg.svd(captions - captions.mean(0), full_matrices=False)[2][:6]
    expected = (shares @ (captions - captions.mean(0))) @ directions.T
    found = head.image_parts(state)[1][0]
    assert torch.allclose(found, torch.nn.functional.normalize(expected, dim=0), atol=2e-3)


def test_a_text_that_counts_twice_is_as_two_of_it() -> None:
    torch.manual_seed(4)
    texts, taught, weights = torch.randn(50, 2 * D), torch.randn(50, S), torch.ones(50)
    words, captions, images = torch.randn(10, D), torch.randn(10, S), torch.randn(10, K, 2 * D)
    weights[:10] = 2
    fitted = []
    for rows, counts in (
        (torch.arange(50), 100 * weights),
        (torch.arange(60) % 50, torch.ones(60)),
    ):
        head = head_with_statistics(images, texts)
        known = Sentences(texts[rows], counts, taught[rows], words, captions, images[:, 5, :D])
        fit_sentences(head, 1, known)
        fitted.append(head.parts[1].embed_text((texts - head.text_mean) / head.text_std, 0.0))
    # The penalty is that of as many texts as there are, whatever the weights: 50 and 60 of them
    # here.
    assert torch.nn.functional.cosine_similarity(*fitted).min() > 0.99


def names(count: int, states_of: Tensor) -> Names:
    tokens = torch.randn(count, 4, D)
    states = tokens.flatten(1) @ states_of
    nearest = alike(tokens.flatten(1))
    return Names(tokens, nearest, states, torch.full((4, D), 0.5), tokens[:20] + 0.5, states[:20])


def test_names_are_found_that_no_picture_was_ever_seen_of() -> None:
    torch.manual_seed(3)
    states_of = torch.randn(4 * D, 2 * D) / 7
    known = names(400, states_of)
    unseen = torch.randn(30, 4, D)
    images = torch.zeros(30, K, 2 * D)
    images[:, :4, :D] = unseen + 0.5
    head = head_with_statistics(images + 0.01 * torch.randn_like(images), known.states)
    fit_names(head, 2, known, steps=300, batch_size=128)
    seen, read = head.image_parts(images)[2], head.text_parts(unseen.flatten(1) @ states_of)[2]
    assert ((read @ seen.T).argmax(1) == torch.arange(30)).float().mean() > 0.6


def test_names_are_fitted_alike_from_the_same_seed() -> None:
    torch.manual_seed(4)
    known = names(60, torch.randn(4 * D, 2 * D))
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        head = head_with_statistics(torch.randn(9, K, 2 * D), known.states)
        fit_names(head, 2, known, steps=3, batch_size=40)
        found.append(head.parts[2].image.weight.detach().clone())
    assert torch.equal(*found)


def test_fitted_parts_stay_while_the_rest_is_trained() -> None:
    torch.manual_seed(6)
    images, texts = torch.randn(30, K, 2 * D), torch.randn(30, 2 * D)
    head = head_with_statistics(images, texts)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    fit(head, States(images, texts, torch.arange(30)), steps=5, batch_size=16, fitted=(1, 2))
    changed = {
        name for name, value in head.state_dict().items() if not torch.equal(value, before[name])
    }
    assert not {name for name in changed if name.startswith(("parts.1", "parts.2"))}
    assert {"parts.0.image.weight", "parts.0.text.weight", "gate.weight"} <= changed
    assert all(parameter.requires_grad for parameter in head.parameters())


def test_searches_move_the_gate_alone() -> None:
    torch.manual_seed(7)
    images, texts = torch.randn(60, K, 2 * D), torch.randn(61, 2 * D)
    owners = torch.cat([torch.arange(60), torch.tensor([-1])])
    head = head_with_statistics(images, texts[:60])
    fitted = []
    for searches in ((), [[60]] * 60):
        each = copy.deepcopy(head)
        fit(
            each,
            States(images, texts, owners, searches=searches),
            steps=20,
            batch_size=16,
            fitted=(1, 2),
        )
        fitted.append(each)
    for name, value in fitted[0].state_dict().items():
        assert torch.equal(value, fitted[1].state_dict()[name]) == (not name.startswith("gate."))
