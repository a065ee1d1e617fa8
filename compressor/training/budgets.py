"""Nested budgets: the first m summary tokens of an image are worth reading without the rest.

Knows nothing of losses. Matryoshka representations (arXiv 2205.13147, equation 1; of visual tokens: M3, arXiv
2405.17430) sum the losses of all nested sizes; a draw for each image has the same mean at the cost of one size.
Shapes: B images, K summary tokens, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compressor.errors import RecipeInvalid
from compressor.training.recipe import Recipe


def budgets_of(recipe: Recipe, token_count: int) -> tuple[int, ...]:
    """What is drawn from: the recipe's budgets and K itself; empty where it has none.

    Raises RecipeInvalid where a budget is larger than the `token_count` K.
    """
    if not recipe.budgets:
        return ()
    if recipe.budgets[-1] > token_count:
        raise RecipeInvalid(f"a budget of {recipe.budgets[-1]} is more than the model's {token_count} summary tokens")
    return tuple(sorted({*recipe.budgets, token_count}))


def drawn(tokens: Tensor, budgets: tuple[int, ...]) -> list[Tensor]:
    """(B, K, D) → of each image the first m tokens (m, D), m drawn from `budgets` with equal chances; all if empty.

    The draw is from PyTorch's CPU generator, whose state is in every checkpoint.
    """
    if not budgets:
        return list(tokens)
    picks = torch.randint(len(budgets), (len(tokens),)).tolist()
    return [row[: budgets[pick]] for row, pick in zip(tokens, picks, strict=True)]
