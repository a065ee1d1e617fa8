"""Fits the retrieval head to hidden states of a finished first pass: a minute instead of hours.

The language model is frozen, so its states are computed once. Linear heads on them reach what joint
training with small batches does not, because every batch holds hundreds of negatives. Each part of
the embedding is fitted in its own way: words by contrast, names by contrast on made-up pictures,
sentences in closed form. Shapes: N images, M texts, P parts, K summary positions, C channels, D
hidden size, E embedding size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.default_model.retrieval_head import PartedHead, PartHead, joined
from compressor.default_model.soft_word_projector import NAME_TOKENS
from compressor.training.step import HardNegatives, info_nce

_GATE_DROPOUT = 0.8  # with less the gate learns single texts by heart
_QUERY_SHARE = 0.3  # of the texts that the gate sees of an image that has queries
_FOLDS = 5


@dataclass(frozen=True)
class FitConfig:
    """Settings of one fit by contrast."""

    steps: int = 300
    batch_size: int = 512
    learning_rate: float = 1e-3
    dropout: float = 0.5
    label_smoothing: float = 0.1
    weight_decay: float = 0.1
    seed: int = 1


@dataclass(frozen=True)
class States:
    """Hidden states of training images and their texts."""

    images: Tensor  # (N, K, C)
    texts: Tensor  # (M, C)
    owners: (
        Tensor  # (M,) the image that each text is about, -1 for a mere hard negative
    )
    # (M,) the text that is nearly the same and wrong, -1 where there is none.
    hard_negatives: Tensor | None = None
    part_mask: Tensor | None = (
        None  # (N, P) bool, the parts that an image teaches; all if None
    )
    folds: Tensor | None = None  # (N,) images of one fold are left out together
    # Of each image, texts that are right of other images too: for the gate alone.
    queries: Sequence[Sequence[int]] = ()


def fit(
    head: PartedHead,
    states: States,
    config: FitConfig = FitConfig(),
    fitted: Collection[int] = (),
) -> None:
    """Trains both projections and the temperature with symmetric InfoNCE; takes statistics first.

    Trains each part by itself, on the images that teach it, but leaves the parts in `fitted` as
    they are. An image must tell its text from all other texts of the batch and from the text's hard
    negative.
    """
    head.fit_statistics(states.images, states.texts[states.owners >= 0])
    images = torch.arange(len(states.images))
    if head.gate is not None:
        folds = states.folds if states.folds is not None else images % _FOLDS
        left_out = folds == folds.min()
        # A part knows the images it was fitted to by heart, which says nothing of how good it is on
        # others. So the gate learns from a trial head, on the images that the trial was fitted
        # without.
        trial = copy.deepcopy(head)
        _fit_parts(trial, states, images[~left_out], config, fitted)
        gate = _fit_gate(trial, states, images[left_out], config)
        head.gate.load_state_dict(gate.state_dict())
    _fit_parts(head, states, images, config, fitted)


@dataclass(frozen=True)
class _Batch:
    """Images, a text of each, and the text's hard negative where it has one."""

    images: Tensor  # (B,)
    right: Tensor  # (B, C)
    wrong: Tensor  # (B, C)
    has_wrong: Tensor  # (B,)
    descend: Callable[[Tensor], None]  # takes the step's loss


def _fit_parts(
    head: PartedHead,
    states: States,
    images: Tensor,
    config: FitConfig,
    fitted: Collection[int],
) -> None:
    """Trains the parts that are not fitted yet."""
    parts = [number for number in range(len(head.parts)) if number not in fitted]
    parameters: list[nn.Parameter] = []
    for number in parts:
        parameters += head.parts[number].parameters()
    parameters.append(head.logit_scale)
    for batch in _steps(states, images, parameters, config):
        image_parts = head.image_parts(states.images[batch.images], config.dropout)
        text_parts = head.text_parts(batch.right, config.dropout)
        wrong_parts = head.text_parts(batch.wrong, config.dropout)
        loss = image_parts[0].new_zeros(())
        for number in parts:
            rows: Tensor | slice = slice(None)
            if states.part_mask is not None:
                rows = states.part_mask[batch.images, number]
            loss = loss + info_nce(
                image_parts[number][rows],
                text_parts[number][rows],
                head.logit_scale,
                hard_negatives=HardNegatives(
                    wrong_parts[number][rows], batch.has_wrong[rows]
                ),
                label_smoothing=config.label_smoothing,
            )
        batch.descend(loss)


def _fit_gate(
    head: PartedHead,
    states: States,
    images: Tensor,
    config: FitConfig,
) -> nn.Linear:
    """Trains how much each part counts for a text; the parts stay. Returns the gate."""
    assert head.gate is not None
    # The whole embedding has another best temperature than its parts.
    logit_scale = nn.Parameter(head.logit_scale.detach().clone())
    parameters = [*head.gate.parameters(), logit_scale]
    # The parts are not trained here, so only the gate's own gradient is computed.
    for batch in _steps(states, images, parameters, config, _QUERY_SHARE):
        with torch.no_grad():
            embedded = joined(head.image_parts(states.images[batch.images]))
            right_parts = head.text_parts(batch.right)
            wrong_parts = head.text_parts(batch.wrong)
        right = joined(right_parts, head.gates(batch.right, _GATE_DROPOUT))
        wrong = joined(wrong_parts, head.gates(batch.wrong, _GATE_DROPOUT))
        loss = info_nce(
            embedded,
            right,
            logit_scale,
            hard_negatives=HardNegatives(wrong, batch.has_wrong),
            label_smoothing=config.label_smoothing,
        )
        batch.descend(loss)
    return head.gate


def _steps(
    states: States,
    images: Tensor,
    parameters: Sequence[nn.Parameter],
    config: FitConfig,
    query_share: float = 0.0,
) -> Iterator[_Batch]:
    """Batches of the images, each with one of its texts.

    An image that has queries comes with one of them in a share `query_share` of the cases.
    """
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    descend = _descent(parameters, config)
    texts_of = _texts_of_images(states.owners, len(states.images))

    def text_of(image: int) -> int:
        texts: Sequence[int] = texts_of[image]
        queries = states.queries[image] if query_share and states.queries else ()
        if queries and float(torch.rand((), generator=generator)) < query_share:
            texts = queries
        return texts[int(torch.randint(len(texts), (1,), generator=generator))]

    negative_of = states.hard_negatives
    if negative_of is None:
        negative_of = torch.full_like(states.owners, -1)
    for _ in range(config.steps):
        order = torch.randperm(len(images), generator=generator)
        chosen = images[order[: config.batch_size]]
        right = torch.tensor([text_of(image) for image in chosen.tolist()])
        wrong = negative_of[right]
        # A row without a hard negative holds any text; `has_wrong` leaves it out of the loss.
        wrong_states = states.texts[wrong.clamp(min=0)]
        yield _Batch(
            chosen,
            states.texts[right],
            wrong_states,
            wrong >= 0,
            descend,
        )


def _descent(
    parameters: Sequence[nn.Parameter], config: FitConfig
) -> Callable[[Tensor], None]:
    """A function that takes one step down a loss, under a one-cycle schedule of `config.steps`."""
    optimiser = torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        config.learning_rate,
        total_steps=config.steps,
    )

    def descend(loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()

    return descend


def _texts_of_images(owners: Tensor, count: int) -> list[list[int]]:
    texts_of: list[list[int]] = [[] for _ in range(count)]
    for text, image in enumerate(owners.tolist()):
        if image >= 0:
            texts_of[image].append(text)
    return texts_of


# Names. The part that finds a picture by a name learns from thousands of names without pictures.
# The first four tokens of a picture are a mixture of names' tokens, so a picture of any noun can be
# made up: the noun's tokens mixed with those of similar nouns, about as unsure as the vision tower.

_SIMILAR = 11  # nouns that a made-up picture is mixed with
# Mean and standard deviation of the logits that a mixture's shares are drawn from.
_OWN_LOGITS, _SIMILAR_LOGITS = (6.0, 3.5), (0.0, 1.5)
_REAL_PICTURES = 128  # of a step
_FIRST_LOGIT_SCALE = 3.0


@dataclass(frozen=True)
class Names:
    """Nouns, and real pictures with their names. Shapes: M nouns, N pictures."""

    tokens: (
        Tensor  # (M, 4, D) token embeddings, as the projector has them of its own names
    )
    similar: Tensor  # (M, _SIMILAR) the most similar nouns
    states: Tensor  # (M, C) text states of a caption that names it
    offsets: Tensor  # (4, D) what the first pass adds to the tokens
    pictures: Tensor  # (N, 4, D) what the part reads of real pictures
    captions: Tensor  # (N, C) text states of captions that name what they show


def nearest_nouns(teacher_embeddings: Tensor) -> Tensor:
    """(M, S) the teacher's embeddings of nouns → (M, _SIMILAR) the nearest others."""
    # All nouns stand in one caption; without the common part they differ more clearly.
    centred = teacher_embeddings - teacher_embeddings.mean(0)
    centred = nn.functional.normalize(centred, dim=-1)
    nearest = []
    for part in centred.split(1024):
        indices = (part @ centred.T).topk(_SIMILAR + 1).indices
        nearest.append(indices[:, 1:])  # the nearest of all is the noun itself
    return torch.cat(nearest)


def fit_names(
    head: PartedHead,
    part: int,
    names: Names,
    config: FitConfig = FitConfig(steps=600),
) -> None:
    """Trains the part's two projections with symmetric InfoNCE.

    The head's statistics must have been taken. The part reads the first layer at the positions of
    the name's tokens.
    """
    torch.manual_seed(config.seed)
    target = head.part(part)
    logit_scale = nn.Parameter(torch.tensor(_FIRST_LOGIT_SCALE))
    parameters = [
        *target.image.parameters(),
        *target.text.parameters(),
        logit_scale,
    ]
    descend = _descent(parameters, config)
    # Real pictures keep made-up ones honest where the mixture model is wrong.
    real = min(_REAL_PICTURES, len(names.pictures))
    for _ in range(config.steps):
        nouns = torch.randperm(len(names.tokens))[: config.batch_size - real]
        pictures = torch.randperm(len(names.pictures))[:real]
        tokens = torch.cat([_made_up_pictures(names, nouns), names.pictures[pictures]])
        states = torch.cat([names.states[nouns], names.captions[pictures]]).float()
        images = target.embed_image(_standardised(head, target, tokens), config.dropout)
        texts = target.embed_text(
            (states - head.text_mean) / head.text_std, config.dropout
        )
        smoothing = config.label_smoothing
        # The released part was fitted to the sum of both directions, not to their mean.
        descend(2 * info_nce(images, texts, logit_scale, label_smoothing=smoothing))


def _made_up_pictures(names: Names, nouns: Tensor) -> Tensor:
    """(B,) nouns → (B, 4, D) tokens of pictures of them."""
    own = _drawn_logits(_OWN_LOGITS, len(nouns), 1)
    similar = _drawn_logits(_SIMILAR_LOGITS, len(nouns), _SIMILAR)
    shares = torch.cat([own, similar], dim=1).softmax(1)
    candidates = torch.cat([nouns.unsqueeze(1), names.similar[nouns]], dim=1)
    mixed = torch.einsum("bk,bktd->btd", shares, names.tokens[candidates])
    return mixed + names.offsets


def _drawn_logits(distribution: tuple[float, float], rows: int, columns: int) -> Tensor:
    mean, std = distribution
    return mean + std * torch.randn(rows, columns)


def _standardised(head: PartedHead, part: PartHead, tokens: Tensor) -> Tensor:
    """(B, 4, D) tokens → (B, K, C) standardised states; what the part does not read stays 0."""
    states = head.image_mean.expand(len(tokens), -1, -1).clone()
    states[:, :NAME_TOKENS, part.channels] = tokens
    return (states - head.image_mean) / head.image_std


# Sentences. The text side learns, from thousands of texts without pictures, where a good sentence
# encoder puts them. The image side maps the caption embedding to the mean of the captions there.
# Both maps are linear and in closed form, so heads fitted out of fold stay out of fold here too.

_TEXT_PENALTY = 300.0
_IMAGE_PENALTY = 1e-4  # of the mean square of the captions' embeddings


@dataclass(frozen=True)
class Sentences:
    """Texts, and photographs with captions. Shapes: M texts, N photographs, S teacher's size."""

    states: Tensor  # (M, C) of texts
    weights: Tensor  # (M,) how much each of them counts
    teacher_embeddings: Tensor  # (M, S) of the same texts
    words: Tensor  # (N, D) mean token embedding of each photograph's captions
    captions: Tensor  # (N, S) mean of the teacher's embeddings of the same captions
    images: Tensor  # (B, D) what the part reads of training photographs with captions


def fit_sentences(head: PartedHead, part: int, sentences: Sentences) -> None:
    """Sets the part's two projections; the head's statistics must have been taken.

    The part reads one position and layer. Its state there is linear in the caption embedding that
    the projector predicts (`caption_heads`).
    """
    target = head.part(part)
    centre = sentences.captions.mean(0)
    # The directions in which captions differ most: all that an embedding of this size can keep.
    _, _, directions = torch.linalg.svd(
        sentences.captions - centre, full_matrices=False
    )
    directions = directions[: target.image.out_features]  # (e, S)
    text_weight, text_bias = _text_map(head, sentences, centre, directions)
    image = _image_map(sentences, centre) @ directions.T  # (D, e)

    position = int(target.positions[0])
    mean = head.image_mean[position, target.channels]
    std = head.image_std[position, target.channels]
    with torch.no_grad():
        target.text.weight.copy_(text_weight.T)
        target.text.bias.copy_(text_bias)
        target.image.weight.copy_((image * std.unsqueeze(1)).T)
        target.image.bias.copy_((mean - sentences.images.mean(0)) @ image)


def _text_map(
    head: PartedHead,
    sentences: Sentences,
    centre: Tensor,
    directions: Tensor,
) -> tuple[Tensor, Tensor]:
    """(C, e) and (e,): weighted ridge regression from text states to the teacher's embeddings."""
    states = (sentences.states - head.text_mean) / head.text_std
    weights = (sentences.weights / sentences.weights.mean()).unsqueeze(1)
    states_mean = (states * weights).mean(0)
    target_mean = (sentences.teacher_embeddings * weights).mean(0)
    centred = states - states_mean
    gram = centred.T @ (centred * weights)
    gram.diagonal().add_(_TEXT_PENALTY)
    targets = ((sentences.teacher_embeddings - target_mean) * weights) @ directions.T
    slope = torch.linalg.solve(gram, centred.T @ targets)
    return slope, (target_mean - centre) @ directions.T - states_mean @ slope


def _image_map(sentences: Sentences, centre: Tensor) -> Tensor:
    """(D, S): kernel ridge regression from mean token embeddings to the captions' embeddings."""
    # There are fewer photographs than channels, so the kernel is the smaller system. It is nearly
    # singular; float32 would not do.
    words = (sentences.words - sentences.words.mean(0)).double()
    kernel = words @ words.T
    kernel.diagonal().add_(_IMAGE_PENALTY * kernel.diagonal().mean())
    solution = torch.linalg.solve(kernel, (sentences.captions - centre).double())
    slope: Tensor = words.T @ solution
    return slope.float()
