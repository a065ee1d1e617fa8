"""The endless stream of training samples: photographs and composed scenes, mixed by weight.

Sample n of a source depends on the seed and n alone, so a saved position is a few integers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compressor.default_model.data import photos as photographs
from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.photos import Photo, Photos
from compressor.default_model.data.questions import both_ways, describe, questions
from compressor.default_model.data.scenes import compose
from compressor.errors import DataInvalid
from compressor.training.sample import QA, Sample, shuffled

# Share of the samples: photographs with a name, photographs with captions, composed scenes.
WEIGHTS = {
    "labels": 0.20,
    "captions": 0.10,
    "scenes": 0.70,
}
# How likely a kind of question about a scene is drawn, beside the others that the scene allows.
KIND_WEIGHTS = {
    "naming": 1.0, "background": 1.0, "count": 9.0, "count_all": 2.0, "exists": 5.0, "side": 5.0,
    "height": 5.0, "where": 0.7, "where_across": 1.5, "where_down": 1.5, "colour": 1.5,
    "colour_many": 1.5, "caption": 0.4, "is_background": 0.4, "what_beside": 0.8,
    "what_above": 0.8, "relation_true": 0.6, "absent": 0.02,
}  # fmt: skip
# Share of a scene's names that the projector must not choose: it then shows what the object
# resembles, as it does for names it never learnt, and the second pass learns to find it all the
# same.
HIDDEN_SHARE = 0.6
ANSWERED_BY_NAMES = frozenset(
    {"naming", "caption", "what_beside", "what_above", "absent"}
)


@dataclass(frozen=True)
class MixtureSample(Sample):
    """A sample whose origin is a Photo or a Scene."""

    hidden_names: frozenset[str] = (
        frozenset()
    )  # that the projector must not choose here


class Mixture:
    """An endless iterator of samples that can be stopped and taken up again exactly."""

    def __init__(
        self,
        photos: Photos,
        objects: Objects,
        seed: int,
        weights: Mapping[str, float] = WEIGHTS,
        questions_per_scene: int = 3,
        relation_share: float = 0.0,
    ) -> None:
        """Raises DataInvalid if a source with a weight has no data.

        Uses training data only, without objects named like a held-out photograph's class.
        `relation_share` of the scenes have two different objects whose positions are asked for.
        """
        self._objects = objects.training(excluded=photos.held_out_labels)
        self._photos: dict[str, Sequence[Photo]] = {
            "labels": [photo for photo in photos.training if photo.label],
            "captions": [photo for photo in photos.training if photo.captions],
        }
        self._seed = seed
        self._weights = {
            source: weight for source, weight in weights.items() if weight > 0
        }
        self._questions_per_scene = questions_per_scene
        self._relation_share = relation_share
        self._position = 0
        self._drawn = dict.fromkeys(self._weights, 0)
        self._places: list[
            tuple[str, int]
        ] = []  # of the samples whose source is drawn already
        for source in self._weights:
            if source not in WEIGHTS:
                raise DataInvalid(
                    f"unknown source {source!r}: there are {', '.join(WEIGHTS)}"
                )
            if not (
                self._objects.names if source == "scenes" else self._photos[source]
            ):
                raise DataInvalid(f"no training data for {source!r}")

    @property
    def has_captions(self) -> bool:
        """Every source has captions."""
        return True

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for a run to be resumed."""
        return {"seed": self._seed, "weights": dict(self._weights)}

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        sample = self[self._position]
        # Counted only now: a run that failed on a sample makes it again when it resumes.
        self._position += 1
        return sample

    def __getitem__(self, position: int) -> Sample:
        """Sample n of the stream, wherever the iterator stands."""
        source, number = self._place(position)
        rng = random.Random(f"{self._seed}/{source}/{number}")
        if source == "scenes":
            return self._scene(rng)
        of_kind = self._photos[source]
        order = shuffled(
            len(of_kind), f"{self._seed}/{source}/epoch {number // len(of_kind)}"
        )
        return self._photo(of_kind[order[number % len(of_kind)]], source, rng)

    def _place(self, position: int) -> tuple[str, int]:
        """The source of a sample, and how many samples before it came from there."""
        while len(self._places) <= position:
            choice = random.Random(f"{self._seed}/{len(self._places)}")
            source = choice.choices(list(self._weights), list(self._weights.values()))[
                0
            ]
            self._places.append((source, self._drawn[source]))
            self._drawn[source] += 1
        return self._places[position]

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands; JSON-serialisable."""
        return {**self.identity, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken. Raises DataInvalid for the state of another stream."""
        if state["seed"] != self._seed or state["weights"] != self._weights:
            raise DataInvalid(
                "the saved position belongs to a stream with another seed or other weights"
            )
        self._position = state["position"]

    def _scene(self, rng: random.Random) -> Sample:
        relation = self._relation_share > 0 and rng.random() < self._relation_share
        scene = compose(rng, self._objects, groups=(1, 1) if relation else None)
        chosen: list[QA] = []
        if relation:
            # All questions but one are about the two positions; the last is of any kind.
            chosen = both_ways(scene, rng)[: self._questions_per_scene - 1]
        hidden = frozenset(name for name in scene.counts if rng.random() < HIDDEN_SHARE)
        possible = questions(scene, rng, self._objects, hidden)
        unfit: set[str] = set()
        if relation:
            # Each of its objects is one: asked for here, "one" would become the number to guess.
            unfit |= {"count", "count_all"}
        if hidden:
            # The model cannot say a name that the tokens do not show.
            unfit |= ANSWERED_BY_NAMES
        possible = [qa for qa in possible if qa.kind not in unfit]
        while possible and len(chosen) < self._questions_per_scene:
            weights = [KIND_WEIGHTS[qa.kind] for qa in possible]
            number = rng.choices(range(len(possible)), weights)[0]
            chosen.append(possible.pop(number))
        return MixtureSample(
            scene.image,
            tuple(chosen),
            describe(scene, rng),
            "scenes",
            origin=scene,
            hidden_names=hidden,
        )

    def _photo(self, photo: Photo, source: str, rng: random.Random) -> Sample:
        asked = photographs.questions(photo, rng, self._photos[source])
        caption = photographs.caption(photo, rng)
        return MixtureSample(photo.open(), tuple(asked), caption, source, photo)
