"""Fits the retrieval head to hidden states of a finished first pass: a minute instead of hours.

Knows nothing of images. With the language model frozen its states are computed once; linear heads
on them reach what joint training with small batches does not, since every batch holds hundreds of
negatives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.default_model.projector import NAME_TOKENS
from compressor.default_model.retrieval_head import PartedHead, PartHead, joined

_GATE_DROPOUT = 0.8  # with less the gate learns single texts by heart
_SEARCH_SHARE = 0.3  # of the texts that the gate sees of an image that has searches
_FOLDS = 5


@dataclass(frozen=True)
class States:
    """Hidden states of training images and their texts."""

    images: Tensor  # (N, K, C)
    texts: Tensor  # (M, C)
    owners: (
        Tensor  # (M,) image that each text is about, -1 for a text that is only somebody's rival
    )
    rivals: Tensor | None = (
        None  # (M,) text that is nearly the same but wrong, -1 where there is none
    )
    teaches: Tensor | None = (
        None  # (N, P) parts of the embedding that an image teaches; all if None
    )
    folds: Tensor | None = None  # (N,) images of one number are kept back together
    searches: Sequence[
        Sequence[int]
    ] = ()  # of each image, texts that are right of others too: for the gate alone


def fit(
    head: PartedHead,
    states: States,
    steps: int = 300,
    batch_size: int = 512,
    rate: float = 1e-3,
    dropout: float = 0.5,
    smoothing: float = 0.1,
    decay: float = 0.1,
    seed: int = 1,
    fitted: Collection[int] = (),
) -> None:
    """Trains both projections and the temperature with symmetric InfoNCE; statistics are taken first.

    An image must also tell its text from the text's rival, beside all other texts of the batch.
    Each of several parts of the embedding is trained by itself, on the images that teach it, but
    those that are `fitted` already. How much each part counts for a text is learnt on images that a
    trial of the parts was kept from: what a part knows by heart says nothing of how good it is.
    There the images' searches are texts of theirs too.
    """
    head.fit_statistics(states.images, states.texts[states.owners >= 0])
    settings = _Settings(steps, batch_size, rate, dropout, smoothing, decay)
    every = torch.arange(len(states.images))
    if head.gate is not None:
        folds = states.folds if states.folds is not None else every % _FOLDS
        kept = folds == folds.min()
        trial = copy.deepcopy(head)
        _train(trial, states, every[~kept], settings, seed, fitted)
        _train_gate(trial, states, every[kept], settings, seed)
        head.gate.load_state_dict(trial.gate.state_dict())  # type: ignore[union-attr]  # a copy of what has one
    _train(head, states, every, settings, seed, fitted)


@dataclass(frozen=True)
class _Settings:
    steps: int
    batch_size: int
    rate: float
    dropout: float
    smoothing: float
    decay: float


@dataclass(frozen=True)
class _Batch:
    """Images, a text of each, and the text's rival where it has one."""

    chosen: Tensor  # (B,) images
    right: Tensor  # (B, C)
    wrong: Tensor  # (B, C)
    has_rival: Tensor  # (B,)
    descend: Callable[[Tensor], None]  # takes the step's loss


def _train(
    head: PartedHead,
    states: States,
    images: Tensor,
    settings: _Settings,
    seed: int,
    fitted: Collection[int],
) -> None:
    """The parts that are not fitted yet, each by itself."""
    parts = [number for number in range(len(head.parts)) if number not in fitted]
    trained = [
        *(each for number in parts for each in head.parts[number].parameters()),
        head.logit_scale,
    ]
    for batch in _steps(states, images, trained, settings, seed):
        scale = head.logit_scale.exp().clamp(max=100)
        seen = head.image_parts(states.images[batch.chosen], settings.dropout)
        read, wrong = (
            head.text_parts(texts, settings.dropout) for texts in (batch.right, batch.wrong)
        )
        loss = seen[0].new_zeros(())
        for number in parts:
            rows = slice(None) if states.teaches is None else states.teaches[batch.chosen, number]
            pairs = (each[number][rows] for each in (seen, read, wrong))
            loss = loss + _contrast(*pairs, batch.has_rival[rows], scale, settings.smoothing)
        batch.descend(loss)


def _train_gate(
    head: PartedHead, states: States, images: Tensor, settings: _Settings, seed: int
) -> None:
    """How much each part counts, the parts as they are; the temperature of the whole is another
    than that of a part.
    """
    gate, logit_scale = head.gate, nn.Parameter(head.logit_scale.detach().clone())
    assert gate is not None
    for batch in _steps(
        states, images, [*gate.parameters(), logit_scale], settings, seed, _SEARCH_SHARE
    ):
        with torch.no_grad():
            seen = joined(head.image_parts(states.images[batch.chosen]))
            read, wrong = (head.text_parts(texts) for texts in (batch.right, batch.wrong))
        gates, wrong_gates = (
            head.gates(texts, _GATE_DROPOUT) for texts in (batch.right, batch.wrong)
        )
        scale = logit_scale.exp().clamp(max=100)
        batch.descend(
            _contrast(
                seen,
                joined(read, gates),
                joined(wrong, wrong_gates),
                batch.has_rival,
                scale,
                settings.smoothing,
            )
        )


def _steps(
    states: States,
    images: Tensor,
    trained: Sequence[nn.Parameter],
    settings: _Settings,
    seed: int,
    search_share: float = 0.0,
) -> Iterator[_Batch]:
    """Batches of the images, each with one of its texts, or of its searches in such a share of the
    cases.
    """
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    optimiser = torch.optim.AdamW(trained, lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=settings.steps
    )

    def descend(loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()

    of_image = _texts_of_images(states.owners, len(states.images))

    def text_of(image: int) -> int:
        searched = states.searches[image] if search_share and states.searches else ()
        texts = (
            searched
            if searched and float(torch.rand((), generator=draw)) < search_share
            else of_image[image]
        )
        return texts[int(torch.randint(len(texts), (1,), generator=draw))]

    rivals = states.rivals if states.rivals is not None else torch.full_like(states.owners, -1)
    for _ in range(settings.steps):
        chosen = images[torch.randperm(len(images), generator=draw)[: settings.batch_size]]
        said = torch.tensor([text_of(image) for image in chosen.tolist()])
        rival = rivals[said]
        yield _Batch(
            chosen, states.texts[said], states.texts[rival.clamp(min=0)], rival >= 0, descend
        )


def _contrast(
    images: Tensor,
    texts: Tensor,
    rivals: Tensor,
    has_rival: Tensor,
    scale: Tensor,
    smoothing: float,
) -> Tensor:
    """Symmetric InfoNCE of (B, E) pairs, smoothed, and how well each right text is told from its
    rival (B, E) alone.
    """
    scores = images @ texts.T * scale
    right = torch.arange(len(scores))
    told = nn.functional.softplus((images * rivals).sum(-1) * scale - scores.diagonal())[has_rival]
    to_texts = nn.functional.cross_entropy(
        scores, right, label_smoothing=smoothing
    ) + told.sum() / max(1, len(told))
    return (to_texts + nn.functional.cross_entropy(scores.T, right, label_smoothing=smoothing)) / 2


def _texts_of_images(owners: Tensor, count: int) -> list[Sequence[int]]:
    of_image: list[list[int]] = [[] for _ in range(count)]
    for text, image in enumerate(owners.tolist()):
        if image >= 0:
            of_image[image].append(text)
    return of_image


# The part of the retrieval embedding that finds a picture by a name, learnt from thousands of names
# without pictures. What a picture's first four tokens say is a mixture of names' tokens, so a
# picture of any noun can be made up: its tokens, mixed with those of nouns that are like it, about
# as unsure as the vision tower is. Shapes: M names, D hidden size, C channels, N real pictures.


_ALIKE = 11  # nouns that a made-up picture is mixed with
_OWN, _OTHERS = (
    (6.0, 3.5),
    (0.0, 1.5),
)  # mean and deviation of the logits that the shares are drawn from
_REAL = 128  # of the pictures of a step
_DROPOUT, _SMOOTHING, _DECAY, _RATE = 0.5, 0.1, 0.1, 1e-3


@dataclass(frozen=True)
class Names:
    """Nouns, and real pictures with their names."""

    tokens: Tensor  # (M, 4, D) token embeddings, as the projector has them of its own names
    alike: Tensor  # (M, _ALIKE) nouns that are most like each
    states: Tensor  # (M, C) text states of a caption that names it
    offsets: Tensor  # (4, D) what the first pass adds to the tokens
    pictures: Tensor  # (N, 4, D) what the part reads of real pictures
    captions: Tensor  # (N, C) text states of captions that name what they show


def alike(taught: Tensor) -> Tensor:
    """(M, S) the teacher's embeddings of names → (M, _ALIKE) the nearest others."""
    centred = nn.functional.normalize(taught - taught.mean(0), dim=-1)
    return torch.cat(
        [(part @ centred.T).topk(_ALIKE + 1).indices[:, 1:] for part in centred.split(1024)]
    )


def fit_names(
    head: PartedHead,
    part: int,
    names: Names,
    steps: int = 600,
    batch_size: int = 512,
    seed: int = 1,
) -> None:
    """Trains the part's two projections with symmetric InfoNCE; the head's statistics must have
    been taken.

    The part reads the first layer at the positions of the name's tokens.
    """
    torch.manual_seed(seed)
    target = head.parts[part]
    logit_scale = nn.Parameter(torch.tensor(3.0))
    parameters = [*target.image.parameters(), *target.text.parameters(), logit_scale]
    optimiser = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    real = min(_REAL, len(names.pictures))
    for _ in range(steps):
        nouns = torch.randperm(len(names.tokens))[: batch_size - real]
        pictures = torch.randperm(len(names.pictures))[:real]
        seen = torch.cat([_made_up(names, nouns), names.pictures[pictures]])
        read = torch.cat([names.states[nouns], names.captions[pictures]]).float()
        images = target.embed_image(_standard(head, target, seen), _DROPOUT)
        texts = target.embed_text((read - head.text_mean) / head.text_std, _DROPOUT)
        scores = images @ texts.T * logit_scale.exp().clamp(max=100)
        right = torch.arange(len(scores))
        loss = sum(
            nn.functional.cross_entropy(each, right, label_smoothing=_SMOOTHING)
            for each in (scores, scores.T)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def _made_up(names: Names, nouns: Tensor) -> Tensor:
    """(B,) nouns → (B, 4, D) tokens of pictures of them."""
    own, others = (mean + deviation * torch.randn(len(nouns), count)
                   for (mean, deviation), count in ((_OWN, 1), (_OTHERS, _ALIKE)))  # fmt: skip
    shares = torch.cat([own, others], dim=1).softmax(1)
    candidates = torch.cat([nouns.unsqueeze(1), names.alike[nouns]], dim=1)
    return torch.einsum("bk,bktd->btd", shares, names.tokens[candidates]) + names.offsets


def _standard(head: PartedHead, part: PartHead, tokens: Tensor) -> Tensor:
    """(B, 4, D) tokens → (B, K, C) standardised states; what the part does not read stays 0."""
    states = head.image_mean.expand(len(tokens), -1, -1).clone()
    states[:, :NAME_TOKENS, part.channels] = tokens
    return (states - head.image_mean) / head.image_std


# The part of the retrieval embedding that finds a picture by a sentence, in closed form. The text
# side learns, from thousands of texts without pictures, where a good sentence encoder puts them;
# the image side reads off the token of all words of a caption where the captions' mean lies there.
# Both maps are linear, so that what the heads were kept from stays unseen here too. Shapes: M
# texts, N photographs, C channels, D hidden size, S size of the teacher's embeddings, e size of the
# part.


_TEXT_PENALTY = 300.0
_IMAGE_PENALTY = 1e-4  # of the mean square of the captions' embeddings


@dataclass(frozen=True)
class Sentences:
    """What is known of texts and of photographs with captions."""

    states: Tensor  # (M, C) of texts
    weights: Tensor  # (M,) how much each of them counts
    taught: Tensor  # (M, S) the teacher's embeddings of the same texts
    words: Tensor  # (N, D) mean token embedding of each photograph's captions
    captions: Tensor  # (N, S) mean of the teacher's embeddings of the same captions
    images: Tensor  # (B, D) what the part reads of training photographs with captions


def fit_sentences(head: PartedHead, part: int, known: Sentences) -> None:
    """Sets the part's two projections; the head's statistics must have been taken.

    The part reads one position and layer, whose state is linear in what the captions' mean token
    embedding is predicted to be (`caption_fit`).
    """
    target = head.parts[part]
    middle = known.captions.mean(0)
    directions = torch.linalg.svd(known.captions - middle, full_matrices=False)[2][
        : target.image.out_features
    ]
    states = (known.states - head.text_mean) / head.text_std
    weights = (known.weights / known.weights.mean()).unsqueeze(1)
    states_mean, taught_mean = (states * weights).mean(0), (known.taught * weights).mean(0)
    centred = states - states_mean
    gram = centred.T @ (centred * weights)
    gram.diagonal().add_(_TEXT_PENALTY)
    text = torch.linalg.solve(
        gram, centred.T @ (((known.taught - taught_mean) * weights) @ directions.T)
    )  # (C, e)
    words = (known.words - known.words.mean(0)).double()
    kernel = words @ words.T
    kernel.diagonal().add_(_IMAGE_PENALTY * kernel.diagonal().mean())
    image = words.T @ torch.linalg.solve(kernel, (known.captions - middle).double())
    image = image.float() @ directions.T  # (D, e)
    position = int(target.positions[0])
    mean = head.image_mean[position, target.channels]
    deviation = head.image_std[position, target.channels]
    with torch.no_grad():
        target.text.weight.copy_(text.T)
        target.text.bias.copy_((taught_mean - middle) @ directions.T - states_mean @ text)
        target.image.weight.copy_((image * deviation.unsqueeze(1)).T)
        target.image.bias.copy_((mean - known.images.mean(0)) @ image)
