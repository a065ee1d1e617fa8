"""The part of the retrieval embedding that finds a picture by a name, learnt from thousands of names without pictures.

Knows nothing of images. What a picture's first four tokens say is a mixture of names' tokens, so a picture of any noun
can be made up: its tokens, mixed with those of nouns that are like it, about as unsure as the vision tower is.
Shapes: M names, D hidden size, C channels, N real pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.retrieval_head import PartHead, RetrievalHead
from compressor.word_projector import NAME_TOKENS

_ALIKE = 11  # nouns that a made-up picture is mixed with
_OWN, _OTHERS = (6.0, 3.5), (0.0, 1.5)  # mean and deviation of the logits that the shares are drawn from
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
    return torch.cat([(part @ centred.T).topk(_ALIKE + 1).indices[:, 1:] for part in centred.split(1024)])


def fit_names(
    head: RetrievalHead, part: int, names: Names, steps: int = 600, batch_size: int = 512, seed: int = 1
) -> None:
    """Trains the part's two projections with symmetric InfoNCE; the head's statistics must have been taken.

    The part reads the first layer at the positions of the name's tokens.
    """
    torch.manual_seed(seed)
    target = head.parts[part]
    log_scale = nn.Parameter(torch.tensor(3.0))
    parameters = [*target.image.parameters(), *target.text.parameters(), log_scale]
    optimiser = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    real = min(_REAL, len(names.pictures))
    for _ in range(steps):
        nouns = torch.randperm(len(names.tokens))[: batch_size - real]
        pictures = torch.randperm(len(names.pictures))[:real]
        seen = torch.cat([_made_up(names, nouns), names.pictures[pictures]])
        read = torch.cat([names.states[nouns], names.captions[pictures]]).float()
        images = target.embed_image(_standard(head, target, seen), _DROPOUT)
        texts = target.embed_text((read - head.text_mean) / head.text_deviation, _DROPOUT)
        scores = images @ texts.T * log_scale.exp().clamp(max=100)
        right = torch.arange(len(scores))
        loss = sum(nn.functional.cross_entropy(each, right, label_smoothing=_SMOOTHING) for each in (scores, scores.T))
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


def _standard(head: RetrievalHead, part: PartHead, tokens: Tensor) -> Tensor:
    """(B, 4, D) tokens → (B, K, C) standardised states; what the part does not read stays 0."""
    states = head.image_mean.expand(len(tokens), -1, -1).clone()
    states[:, :NAME_TOKENS, part.channels] = tokens
    return (states - head.image_mean) / head.image_deviation
