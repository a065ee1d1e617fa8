"""The training loop: steps, learning rates, evaluations, checkpoints, log.

A run's folder holds `log.jsonl` (a line a step) and the checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers.optimization import (
    get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
)

from compressor.errors import RecipeInvalid, TrainingStopped
from compressor.fwd2bot.adapters import ADAPTERS, SHARED, StageAdapters
from compressor.fwd2bot.baselines import SUMMARY_TOKENS
from compressor.fwd2bot.config import ForwardKind
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training import checkpoint
from compressor.training.base_parts import is_within
from compressor.training.batch import Batch
from compressor.training.checkpoint import Layout
from compressor.training.config import TrainConfig
from compressor.training.datasets import check_usable
from compressor.training.distributed import SINGLE, Distributed
from compressor.training.grad_cache import backward, random_state, restore_random_state
from compressor.training.negative_queue import NegativeQueue
from compressor.training.packing import nested_budgets
from compressor.training.sample import Sample
from compressor.training.step import (
    StepLosses,
    double_forward,
    forward_dtype,
    precision,
)
from compressor.training.stream import (
    MAX_CAPTION_WORDS,
    Blend,
    Prepare,
    Samples,
    prepared_steps,
    step_sizes,
)

STATISTICS_SAMPLES = 96
_MIN_LR_SHARE = 0.1
_MIN_UNUSABLE = 10  # samples before their share can stop a run


@dataclass(frozen=True)
class StepLog:
    """A step as `log.jsonl` has it; a loss is that of the whole batch, None where there is none."""

    step: int
    autoregressive: float | None
    distillation: float | None
    contrastive: float | None  # None for fewer than two pairs
    pairs: int  # images and captions that were told from one another
    lr: dict[str, float]  # of each part
    gradient_norm: float
    padding: float  # share of the second pass's places that held nothing
    truncated: int  # conversations that lost turns to the context
    left_out: int  # conversations that fit neither the context nor the chat template
    broken: int  # images that cannot be read, others in their place
    samples_per_second: float
    tokens_per_second: float  # that the second pass read
    seconds: float
    eval_autoregressive: float | None = None
    eval_contrastive: float | None = None


def train(
    model: SummaryLvlm,
    data: Samples,
    config: TrainConfig,
    run: Path,
    world: Distributed = SINGLE,
    *,
    captions: Samples | None = None,
    held_out: Sequence[Blend] = (),
) -> Iterator[StepLog]:
    """Runs or resumes; yields after each step. The model's budgets are from now on the recipe's.

    `captions` is a source of its own for the contrastive loss, `held_out` what evaluations measure.
    Every rank decodes its own shard of a batch; rank 0 keeps log and checkpoint.
    Raises TrainingStopped with a usable checkpoint left behind, RecipeInvalid, DataInvalid.
    """
    sources = [data] if captions is None else [data, captions]
    _check(model, sources, config, world, held_out)
    prepare_model(model, config, world)
    optimizer = build_optimizer(model, config)
    queue = negative_queue(model, config)
    kept = _checkpointed(model, queue)
    layout = _layout(model, sources, config, world)
    first_step = resume(run, kept, optimizer, config, layout, world)
    # A head that goes on from earlier training keeps the statistics that its weights belong to.
    has_first_pass = config.second_pass_input == SUMMARY_TOKENS
    if has_first_pass and not first_step and not model.head.has_statistics:
        take_statistics(model, sources[-1], config)
    scheduler = build_scheduler(optimizer, config, first_step)
    prepare = partial(Batch.of, model, config=config)
    held_out_batches = eval_batches(held_out, prepare, config, world)
    run.mkdir(parents=True, exist_ok=True)

    batches = prepared_steps(sources, prepare, config, world, first_step)
    usable = _Usable()
    for step in range(first_step, config.steps):
        started = time.monotonic()
        # Read before the step, at whose end the scheduler sets the rates of the next one.
        lr = {group["part"]: group["lr"] for group in optimizer.param_groups}
        with _stopping(step):
            batch = next(batches)
            result = train_step(
                model, batch, optimizer, scheduler, config, world, queue
            )
        usable.check(result)
        log = _step_log(step, result, lr, time.monotonic() - started, config)
        if config.eval_every and (step + 1) % config.eval_every == 0:
            losses = evaluate(model, held_out_batches, config, world)
            log = replace(
                log, eval_autoregressive=losses[0], eval_contrastive=losses[1]
            )
        if world.rank == 0:
            _append(log, run)
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            # Gathered on every rank, written on one.
            random_states = world.all_gather_object([random_state()])
            if world.rank == 0:
                checkpoint.save(
                    run, step + 1, kept, optimizer, random_states, config, layout
                )
        yield log


def _append(log: StepLog, run: Path) -> None:
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps(asdict(log)) + "\n")


def train_step(
    model: SummaryLvlm,
    micro_batches: Sequence[Batch],
    optimizer: torch.optim.AdamW,
    scheduler: LambdaLR,
    config: TrainConfig,
    world: Distributed,
    queue: NegativeQueue | None = None,
) -> StepResult:
    """One optimiser step. Raises TrainingStopped if the loss or the gradient is not finite."""
    # To None, not to zeros: a part without a gradient in this step must not decay either.
    optimizer.zero_grad()
    losses = backward(model, micro_batches, config, world, queue)
    parameters = [parameter for _, parameter in model.trained_parameters()]
    world.all_reduce_grads(parameters)
    # After the exchange: every rank clips the same gradient by the same norm.
    norm = float(nn.utils.clip_grad_norm_(parameters, config.max_grad_norm))
    result = _over_ranks(losses, micro_batches, norm, world)
    # After the exchange, so that all ranks stop together.
    losses_and_norm = [*(getattr(result, name) for name in _LOSSES), norm]
    if not all(map(math.isfinite, losses_and_norm)):
        raise TrainingStopped("the loss or gradient is no number")
    optimizer.step()
    scheduler.step()
    return result


@dataclass(frozen=True)
class StepResult:
    """A step over all ranks: means of the losses, sums of the counts."""

    autoregressive: float
    distillation: float
    contrastive: float
    gradient_norm: float
    samples: int
    pairs: int
    answer_tokens: int
    tokens: int
    places: int
    truncated: int
    left_out: int
    broken: int


_LOSSES = ("autoregressive", "distillation", "contrastive")


def _over_ranks(
    losses: StepLosses, micro_batches: Sequence[Batch], norm: float, world: Distributed
) -> StepResult:
    samples = [sample for batch in micro_batches for sample in batch.samples]
    own = StepResult(
        float(losses.autoregressive),
        float(losses.distillation),
        float(losses.contrastive),
        norm,
        samples=len(samples),
        pairs=sum(len(batch.captions) for batch in micro_batches),
        answer_tokens=sum(batch.answer_tokens for batch in micro_batches),
        tokens=losses.tokens,
        places=losses.places,
        truncated=sum(batch.truncated for batch in micro_batches),
        left_out=sum(batch.left_out for batch in micro_batches),
        broken=sum(batch.broken for batch in micro_batches),
    )
    # One exchange for all numbers of the step: each would wait for the slowest rank.
    rows = world.all_gather_object([astuple(own)])
    columns = zip(*rows, strict=True)
    total = StepResult(*map(sum, columns))
    means = {name: getattr(total, name) / world.world_size for name in _LOSSES}
    return replace(total, **means, gradient_norm=norm)


def _step_log(
    step: int,
    result: StepResult,
    lr: dict[str, float],
    seconds: float,
    config: TrainConfig,
) -> StepLog:
    answers = result.autoregressive if result.answer_tokens else None
    # A loss over fewer than two pairs is 0 whatever the model does: it is no result.
    contrastive = result.contrastive if result.pairs >= 2 else None
    return StepLog(
        step=step,
        autoregressive=_rounded(answers),
        distillation=_rounded(
            result.distillation if config.distillation_weight else None
        ),
        contrastive=_rounded(contrastive),
        pairs=result.pairs,
        lr=lr,
        gradient_norm=round(result.gradient_norm, 4),
        padding=round(1 - result.tokens / max(1, result.places), 4),
        truncated=result.truncated,
        left_out=result.left_out,
        broken=result.broken,
        samples_per_second=round(result.samples / seconds, 2),
        tokens_per_second=round(result.tokens / seconds, 1),
        seconds=round(seconds, 3),
    )


def _rounded(loss: float | None) -> float | None:
    return None if loss is None else round(loss, 4)


class _Usable:
    """How much of the data could be used so far."""

    def __init__(self) -> None:
        self._samples = 0
        self._unusable: Counter[str] = Counter()

    def check(self, result: StepResult) -> None:
        """Counts a step. Raises DataInvalid if too much cannot be used.

        The counts are those of all ranks, so all of them stop together.
        """
        self._samples += result.samples
        self._unusable["an image that cannot be read"] += result.broken
        self._unusable["a conversation that does not fit"] += result.left_out
        # A few in the first steps say little about the whole.
        if self._unusable.total() >= _MIN_UNUSABLE:
            check_usable(self._samples, self._unusable)


# Before the first step


def _check(
    model: SummaryLvlm,
    sources: Sequence[Samples],
    config: TrainConfig,
    world: Distributed,
    held_out: Sequence[Blend],
) -> None:
    """Raises RecipeInvalid for what the recipe alone cannot know, before anything is done."""
    config.check_adapters(model.config)
    _check_forward(model, config)
    if config.contrastive_weight and not any(source.has_captions for source in sources):
        raise RecipeInvalid(
            "contrastive_weight is above 0, but no source has captions of at most "
            f"{MAX_CAPTION_WORDS} words: add a caption source (--captions) or set it to 0"
        )
    own_captions = len(sources) > 1
    if own_captions and not config.contrastive_weight:
        raise RecipeInvalid("a caption source needs a contrastive_weight above 0")
    if config.contrastive_batch_size and not own_captions:
        raise RecipeInvalid(
            "contrastive_batch_size needs a caption source (--captions)"
        )
    # Now, not hours later at the first evaluation.
    if config.eval_every and not held_out:
        raise RecipeInvalid(
            "eval_every needs held-out samples, and these sources have none"
        )
    for size in step_sizes(config, len(sources)):
        if size < world.world_size:
            raise RecipeInvalid(
                f"{world.world_size} processes need as many images a step, not {size}"
            )
        if config.fsdp and size % world.world_size:
            raise RecipeInvalid(
                f"with fsdp {world.world_size} processes need as many images each"
            )
    _check_layers(model)
    _check_dtype(model, config)


def _check_forward(model: SummaryLvlm, config: TrainConfig) -> None:
    if model.config.forward == ForwardKind.DOUBLE:
        return
    others: dict[str, bool] = {
        "budgets": config.budgets != (),
        "fsdp": config.fsdp,
        # Layers that are computed again keep no states.
        "gradient_checkpointing": config.gradient_checkpointing,
        "second_pass_input": config.second_pass_input != SUMMARY_TOKENS,
    }
    for name, is_set in others.items():
        if is_set:
            raise RecipeInvalid(f"single forward cannot be trained with {name}")


def _check_layers(model: SummaryLvlm) -> None:
    count = int(model.base.config.get_text_config().num_hidden_layers)
    for layer in model.config.embedding_layers:
        if not -count - 1 <= layer <= count:
            raise RecipeInvalid(
                f"embedding_layers: the model has hidden states 0 to {count}, not {layer}"
            )


def _check_dtype(model: SummaryLvlm, config: TrainConfig) -> None:
    wanted = forward_dtype(config.dtype, model.device)
    weights = model.embedding.words.weight.dtype
    if weights == torch.float16 or (wanted == torch.float32 and weights != wanted):
        loaded, asked = (
            str(dtype).removeprefix("torch.") for dtype in (weights, wanted)
        )
        raise RecipeInvalid(
            f"the base model is loaded in {loaded}, the recipe asks for {asked}"
        )


def prepare_model(model: SummaryLvlm, config: TrainConfig, world: Distributed) -> None:
    """Sets budgets, mode, checkpointing of activations and the random seed."""
    budgets = nested_budgets(config, model.config.token_count)
    model.config = replace(model.config, budgets=budgets)
    # No part works otherwise in training mode, and frozen batch norms must stay as they are.
    model.eval()
    if config.gradient_checkpointing:
        assert isinstance(model.adapters, StageAdapters), (
            "merged adapters cannot be trained"
        )
        model.adapters.checkpoint_activations(model.base)
    # Ranks that drew alike would draw the same budgets for the samples of one place.
    torch.manual_seed(config.seed + world.rank)


def build_optimizer(model: SummaryLvlm, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a learning rate for each adapter and one for all that is small.

    Weight decay acts on matrices alone: towards zero is no better a place for an embedding, a bias,
    a norm or a temperature. What is trained becomes float32.
    """
    rates = {
        "first_pass": config.first_pass_lr,
        "second_pass": config.second_pass_lr,
        SHARED: config.second_pass_lr,
        "head": config.head_lr,
        "base": config.base_lr,
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.trained_parameters():
        # Master weights: bfloat16 would lose every update below a 256th of the weight.
        parameter.data = parameter.data.float()
        part = _part(name, config)
        is_matrix = name.endswith(".weight") and parameter.ndim == 2
        groups.setdefault((part, is_matrix), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "part": part,
                "lr": rates[part],
                "weight_decay": config.weight_decay if is_matrix else 0.0,
            }
            for (part, is_matrix), parameters in groups.items()
        ]
    )


def _part(name: str, config: TrainConfig) -> str:
    """The part of the model that a trained parameter belongs to, by its full name."""
    for adapter in (*ADAPTERS, SHARED):
        if f".{adapter}." in name:
            return adapter
    return "base" if is_within(name, config.base_modules) else "head"


def build_scheduler(
    optimizer: torch.optim.Optimizer, config: TrainConfig, first_step: int
) -> LambdaLR:
    """A linear rise over the warm-up steps, then a cosine down to a tenth at the last step."""
    # A schedule that begins in the middle expects what it would have noted at the start.
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    scheduler: LambdaLR = get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
        optimizer,
        num_warmup_steps=config.warmup_steps,
        num_training_steps=config.steps,
        min_lr_rate=_MIN_LR_SHARE,
        last_epoch=first_step - 1,
    )
    return scheduler


def negative_queue(model: SummaryLvlm, config: TrainConfig) -> NegativeQueue | None:
    """An empty queue of the recipe's size, where it has one."""
    if not config.contrastive_queue:
        return None
    queue = NegativeQueue(config.contrastive_queue, model.config.embedding_size)
    return queue.to(model.device)


def _checkpointed(
    model: SummaryLvlm, queue: NegativeQueue | None
) -> dict[str, torch.Tensor]:
    """What training changes: parameters, the retrieval head's statistics, the queue."""
    kept: dict[str, torch.Tensor] = dict(model.trained_parameters())
    for name, buffer in model.head.named_buffers():
        kept[f"head.{name}"] = buffer
    if queue is not None:
        kept |= {f"queue.{name}": buffer for name, buffer in queue.named_buffers()}
    return kept


def _layout(
    model: SummaryLvlm,
    sources: Sequence[Samples],
    config: TrainConfig,
    world: Distributed,
) -> Layout:
    dtype = forward_dtype(config.dtype, model.device)
    identities = [dict(source.identity) for source in sources]
    name = str(dtype).removeprefix("torch.")
    return Layout(world.world_size, name, {"sources": identities})


def resume(
    run: Path,
    kept: dict[str, torch.Tensor],
    optimizer: torch.optim.AdamW,
    config: TrainConfig,
    layout: Layout,
    world: Distributed,
) -> int:
    """The step to go on with, everything restored; 0 for a new run. Raises DataInvalid."""
    restored = checkpoint.load(run, kept, optimizer, config, layout)
    if restored is None:
        return 0
    first_step, random_states = restored
    # Last, since whatever came before may have drawn.
    restore_random_state(random_states[world.rank])
    return first_step


def take_statistics(model: SummaryLvlm, source: Samples, config: TrainConfig) -> None:
    """Standardises the retrieval head's inputs, of which a few channels would drown the rest."""
    # Every rank reads the same samples here, so that all start with the same statistics.
    images, texts = [], []
    size = config.micro_batch_size or config.batch_size
    with torch.no_grad(), precision(model, config):
        for start in range(0, STATISTICS_SAMPLES, size):
            batch = [source[number] for number in range(start, start + size)]
            images_of_batch = [image for sample in batch for image in sample.images]
            inputs = model.first_pass_inputs(images_of_batch)
            first = model.first_pass(inputs)
            assert first.hidden_states is not None
            images.append(first.hidden_states)
            texts.append(model.text_states([_text(sample) for sample in batch]).hidden)
        model.head.fit_statistics(torch.cat(images), torch.cat(texts))


def _text(sample: Sample) -> str:
    return sample.caption or sample.conversations[0][0].answer


@contextmanager
def _stopping(step: int) -> Iterator[None]:
    """Translates what stops a run at a step. Raises TrainingStopped."""
    try:
        yield
    except TrainingStopped as error:
        raise TrainingStopped(
            f"step {step}: {error}; the last checkpoint is usable"
        ) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingStopped(
            f"out of memory at step {step}: choose a smaller batch_size or micro_batch_size"
        ) from error
    except RuntimeError as error:
        # PyTorch raises this from a signal handler, wherever the training process is.
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingStopped(
            f"step {step}: a process that prepares samples died (out of memory?): {error}"
        ) from error


# Evaluation


def eval_batches(
    held_out: Sequence[Blend], prepare: Prepare, config: TrainConfig, world: Distributed
) -> list[Batch]:
    """This rank's shard of the held-out samples, in batches of `batch_size` over all ranks."""
    # Prepared once and kept: every evaluation measures the same samples.
    batches = []
    for source in held_out:
        count = min(config.eval_samples, len(source))
        for start in range(0, count, config.batch_size):
            numbers = range(start, min(count, start + config.batch_size))
            # Ranks need equal parts, or one would have nothing to do while the others wait.
            whole = numbers[: len(numbers) // world.world_size * world.world_size]
            samples = [source[number] for number in world.shard(whole)]
            if samples:
                batches.append(prepare(samples))
    return batches


def evaluate(
    model: SummaryLvlm,
    batches: Sequence[Batch],
    config: TrainConfig,
    world: Distributed,
) -> tuple[float | None, float | None]:
    """Autoregressive and contrastive loss of held-out samples, None where there is nothing of it.

    Means over answer tokens, and over pairs of batches that have at least two.
    """
    results = []
    # The draws of nested budgets are the same at every evaluation, and leave training's alone.
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(config.seed)
        for batch in batches:
            losses = double_forward(model, batch, config, world)
            results.append(_over_ranks(losses, [batch], 0.0, world))
    answers = [(result.autoregressive, result.answer_tokens) for result in results]
    pairs = [
        (result.contrastive, result.pairs) for result in results if result.pairs >= 2
    ]
    return _rounded(_weighted_mean(answers)), _rounded(_weighted_mean(pairs))


def _weighted_mean(values: Sequence[tuple[float, int]]) -> float | None:
    total = sum(weight for _, weight in values)
    return sum(value * weight for value, weight in values) / total if total else None
