"""The default model's head: parts side by side, weighed by a gate."""

from __future__ import annotations

import torch

from compressor.default_model.retrieval_head import PartedHead
from compressor.default_model.training.retrieval_parts import FitConfig, States, fit
from compressor.fwd2bot.config import EmbeddingPart


def pairs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (at two positions) and texts that show the same thing through different linear views
    and scales.
    """
    views = torch.Generator().manual_seed(7)
    through_image, through_text = (
        torch.randn(6, 24, generator=views),
        torch.randn(6, 24, generator=views),
    )
    draw = torch.Generator().manual_seed(seed)
    things = torch.randn(count, 6, generator=draw)
    noise = torch.randn(2, count, 24, generator=draw) * 0.1
    images = 50 + 9 * (things @ through_image + noise[0])
    return torch.stack([images, images.flip(-1)], dim=1), things @ through_text + noise[
        1
    ]


def recall(
    head: PartedHead,
    images: torch.Tensor,
    texts: torch.Tensor,
) -> float:
    with torch.no_grad():
        scores = head.embed_text(texts) @ head.embed_image(images).T
    return float((scores.argmax(1) == torch.arange(len(scores))).float().mean())


def test_embeddings_have_length_one_and_statistics_make_scale_and_place_irrelevant() -> (
    None
):
    torch.manual_seed(0)
    images, texts = pairs(40, 1)
    head = PartedHead((0,), 24, 8, 2)
    head.fit_statistics(images, texts)
    before = head.embed_image(images)
    torch.testing.assert_close(before.norm(dim=-1), torch.ones(40))
    head.fit_statistics(images * 3 + 5, texts)
    torch.testing.assert_close(
        head.embed_image(images * 3 + 5),
        before,
        atol=1e-4,
        rtol=1e-4,
    )


def test_an_untrained_head_treats_images_and_texts_alike() -> None:
    torch.manual_seed(0)
    head, states = PartedHead((0,), 24, 8, 2), torch.randn(5, 24)
    torch.testing.assert_close(
        head.embed_image(states.unsqueeze(1).expand(-1, 2, -1)), head.embed_text(states)
    )


def test_a_channel_that_never_changes_does_no_harm() -> None:
    states = torch.randn(10, 2, 4)
    states[..., 2] = 1
    head = PartedHead((0,), 4, 3, 2)
    head.fit_statistics(states, states[:, 0])
    assert torch.isfinite(head.embed_image(states)).all()


def test_fitting_finds_unseen_pairs() -> None:
    torch.manual_seed(0)
    images, texts = pairs(400, 1)
    owners = torch.arange(400)
    head = PartedHead((0,), 24, 8, 2)
    unseen = pairs(100, 2)
    head.fit_statistics(images, texts)
    assert recall(head, *unseen) < 0.1
    config = FitConfig(
        steps=120,
        batch_size=64,
        learning_rate=1e-2,
        dropout=0.05,
    )
    fit(head, States(images, texts, owners), config)
    assert recall(head, *unseen) > 0.6


def test_fitting_again_gives_the_same_bits() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        head = PartedHead((0,), 24, 8, 2)
        fit(
            head,
            States(*pairs(30, 1), torch.arange(30)),
            FitConfig(steps=5, batch_size=8),
        )
        found.append(head.parts[0].text.weight.detach().clone())
    assert torch.equal(*found)


def test_several_texts_of_an_image_are_all_used() -> None:
    torch.manual_seed(0)
    images, texts = pairs(20, 1)
    twice = torch.cat([texts, texts + 0.01])
    head = PartedHead((0,), 24, 8, 2)
    states = States(images, twice, torch.arange(20).repeat(2))
    fit(head, states, FitConfig(steps=10, batch_size=8))
    torch.testing.assert_close(head.text_mean, twice.mean(0))


def test_pools_start_on_their_parts_of_the_positions_and_compare_like_with_like() -> (
    None
):
    torch.manual_seed(0)
    head, states = (
        PartedHead((0,), 24, 8, 6, (EmbeddingPart(pools=3),)),
        torch.randn(5, 24),
    )
    weights = head.parts[0].position_weights.softmax(1)
    assert weights.argsort(1, descending=True)[:, :2].sort().values.tolist() == [
        [0, 1],
        [2, 3],
        [4, 5],
    ]
    alike = head.embed_image(states.unsqueeze(1).expand(-1, 6, -1))
    scores = alike @ head.embed_text(states).T
    assert (scores.argmax(1) == torch.arange(5)).all()


def test_fitting_tells_a_text_from_its_rival() -> None:
    """Half of the images have a rival text that differs in one channel only."""
    torch.manual_seed(0)
    images, texts = pairs(200, 1)
    wrong = texts[:100].clone()
    wrong[:, 3] += 8.0
    owners = torch.cat([torch.arange(200), torch.full((100,), -1)])
    rivals = torch.cat([torch.arange(200, 300), torch.full((200,), -1)])

    def told(rivals: torch.Tensor | None) -> float:
        torch.manual_seed(0)
        head = PartedHead((0,), 24, 16, 2)
        fit(
            head,
            States(
                images,
                torch.cat([texts, wrong]),
                owners,
                rivals,
            ),
            FitConfig(
                steps=200,
                learning_rate=3e-3,
                batch_size=128,
                dropout=0.3,
            ),
        )
        with torch.no_grad():
            seen = head.embed_image(images[:100])
            right, other = (
                (seen * head.embed_text(each)).sum(1) for each in (texts[:100], wrong)
            )
        return (right > other).float().mean().item()

    assert told(rivals) > max(0.9, told(None))


PARTS = (EmbeddingPart(pools=2), EmbeddingPart(positions=(1,), layers=(7,)))


def test_a_part_reads_its_positions_and_layers_alone() -> None:
    torch.manual_seed(0)
    head, states = PartedHead((3, 7), 12, 8, 4, PARTS), torch.randn(5, 4, 24)
    changed = states.clone()
    changed[:, [0, 2, 3]] += 1
    changed[:, 1, :12] += 1
    one, other = head.image_parts(states), head.image_parts(changed)
    assert not torch.allclose(one[0], other[0])
    torch.testing.assert_close(one[1], other[1])
    changed[:, 1, 12:] += torch.randn(12)
    assert not torch.allclose(one[1], head.image_parts(changed)[1])
    torch.testing.assert_close(head.embed_image(states).norm(dim=-1), torch.ones(5))


def test_a_text_decides_how_much_each_part_counts() -> None:
    torch.manual_seed(0)
    head, texts = PartedHead((3, 7), 12, 8, 4, PARTS), torch.randn(6, 24)
    assert head.gate is not None
    even = head.embed_text(texts)
    torch.testing.assert_close(even[:, :4].norm(dim=-1), even[:, 4:].norm(dim=-1))
    with torch.no_grad():
        head.gate.bias.copy_(torch.tensor([3.0, -3.0]))
    first = head.embed_text(texts)
    assert (first[:, :4].norm(dim=-1) > 0.98).all()
    assert (first[:, 4:].norm(dim=-1) > 0.1).all()  # none is shut altogether
    torch.testing.assert_close(first.norm(dim=-1), torch.ones(6))


def test_names_and_sentences_are_each_found_by_their_own_part() -> None:
    """Half of the images are told by position 0, half by position 1; the other position is noise,
    as is what is said of it. Texts of the two kinds differ in half of their channels.
    """
    torch.manual_seed(0)
    images, texts = pairs(400, 1)
    images, kind = images.clone(), torch.arange(400) % 2
    images[kind == 0, 1], images[kind == 1, 0] = (
        torch.randn(200, 24) * 9 + 50,
        torch.randn(200, 24) * 9 + 50,
    )
    texts = torch.cat([texts, (20.0 * kind.unsqueeze(1)).expand(400, 24)], dim=1)
    images = torch.cat([images, torch.zeros(400, 2, 24)], dim=2)
    parts = tuple(EmbeddingPart(positions=(number,)) for number in (0, 1))
    head = PartedHead((0,), 48, 16, 2, parts)
    train, unseen = slice(0, 300), slice(300, 400)
    teaches = torch.stack([kind == 0, kind == 1], dim=1)
    states = States(
        images[train],
        texts[train],
        torch.arange(300),
        part_mask=teaches[train],
    )
    fit(
        head,
        states,
        FitConfig(
            steps=200,
            batch_size=100,
            learning_rate=1e-2,
            dropout=0.05,
        ),
    )
    assert recall(head, images[unseen], texts[unseen]) > 0.5
    with torch.no_grad():
        gates = head.gates(texts[unseen])
    assert gates is not None
    assert (gates.argmax(1) == kind[unseen]).float().mean() > 0.9
