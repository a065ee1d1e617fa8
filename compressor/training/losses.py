"""The losses of a double-forward step.

Knows nothing of where tensors come from. Shapes: B batch, K summary tokens, E embedding size, W words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compressor.training.targets import Target


def contrastive(images: Tensor, texts: Tensor, log_scale: Tensor, same: Tensor) -> Tensor:
    """Symmetric InfoNCE over (B, E) embeddings of length 1 (Fwd2Bot, after the first pass; CLIP, arXiv 2103.00020).

    `same` (B, B) marks pairs whose captions are equal: no negatives of each other.
    """
    scores = images @ texts.T * log_scale.exp().clamp(max=100)
    others = same & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(others, torch.finfo(scores.dtype).min)
    right = torch.arange(len(scores), device=scores.device)
    return (nn.functional.cross_entropy(scores, right) + nn.functional.cross_entropy(scores.T, right)) / 2


def words(logits: Tensor, targets: Sequence[Sequence[Target]], weight: float | None = None) -> Tensor:
    """Cross entropy of (B, K, W) logits at the summary positions against the words known of each image.

    `weight` is what the sum is divided by: that of the targets, where they are all there are.
    """
    flat = [(row, each) for row, found in enumerate(targets) for each in found]
    if not flat:
        return logits.sum() * 0
    rows = torch.tensor([row for row, _ in flat], device=logits.device)
    positions = torch.tensor([each.position for _, each in flat], device=logits.device)
    ids = torch.tensor([each.token_id for _, each in flat], device=logits.device)
    weights = torch.tensor([each.weight for _, each in flat], device=logits.device)
    likelihoods = logits.float().log_softmax(-1)[rows, positions, ids]
    return -(weights * likelihoods).sum() / (weights.sum() if weight is None else weight)


def autoregressive(logits: Tensor, labels: Tensor, count: float | None = None) -> Tensor:
    """Cross entropy of (N, W) logits against (N,) next tokens of answers (Fwd2Bot, after the second pass).

    The sum is divided by `count`: N, where these tokens are all there are.
    """
    return nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / (count or max(1, len(labels)))
