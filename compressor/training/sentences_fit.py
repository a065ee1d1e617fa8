"""The part of the retrieval embedding that finds a picture by a sentence, in closed form.

Knows nothing of images. The text side learns, from thousands of texts without pictures, where a good sentence encoder
puts them; the image side reads off the token of all words of a caption where the captions' mean lies there. Both maps
are linear, so that what the heads were kept from stays unseen here too.
Shapes: M texts, N photographs, C channels, D hidden size, S size of the teacher's embeddings, e size of the part.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.retrieval_head import RetrievalHead

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


def fit_sentences(head: RetrievalHead, part: int, known: Sentences) -> None:
    """Sets the part's two projections; the head's statistics must have been taken.

    The part reads one position and layer, whose state is linear in what the captions' mean token embedding is predicted
    to be (`caption_fit`).
    """
    target = head.parts[part]
    middle = known.captions.mean(0)
    directions = torch.linalg.svd(known.captions - middle, full_matrices=False)[2][: target.image.out_features]
    states = (known.states - head.text_mean) / head.text_deviation
    weights = (known.weights / known.weights.mean()).unsqueeze(1)
    states_mean, taught_mean = (states * weights).mean(0), (known.taught * weights).mean(0)
    centred = states - states_mean
    gram = centred.T @ (centred * weights)
    gram.diagonal().add_(_TEXT_PENALTY)
    text = torch.linalg.solve(gram, centred.T @ (((known.taught - taught_mean) * weights) @ directions.T))  # (C, e)
    words = (known.words - known.words.mean(0)).double()
    kernel = words @ words.T
    kernel.diagonal().add_(_IMAGE_PENALTY * kernel.diagonal().mean())
    image = words.T @ torch.linalg.solve(kernel, (known.captions - middle).double())
    image = image.float() @ directions.T  # (D, e)
    position = int(target.positions[0])
    mean = head.image_mean[position, target.channels]
    deviation = head.image_deviation[position, target.channels]
    with torch.no_grad():
        target.text.weight.copy_(text.T)
        target.text.bias.copy_((taught_mean - middle) @ directions.T - states_mean @ text)
        target.image.weight.copy_((image * deviation.unsqueeze(1)).T)
        target.image.bias.copy_((mean - known.images.mean(0)) @ image)
