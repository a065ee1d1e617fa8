"""Writes a folder that `precis train lvlm --data` reads, from photographs with captions or labels.

The folder has index.jsonl with captions, questions, conversations and queries, and a link to the
images. The same seed gives the same bytes.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from compressor.default_model.checkpoints import load_tokenizer
from compressor.default_model.data import label_questions
from compressor.default_model.data.captions import about_several
from compressor.default_model.data.captions.conversations import conversations
from compressor.default_model.data.captions.photograph import Photograph
from compressor.default_model.data.captions.presence import Presence
from compressor.default_model.data.captions.queries import queries
from compressor.default_model.data.captions.questions import questions
from compressor.default_model.data.labels import named
from compressor.default_model.data.made_up_names import MadeUpNames
from compressor.default_model.data.photos import Photo, read
from compressor.default_model.names import name_token_ids
from compressor.errors import DataInvalid
from compressor.training.sample import QA

Only = Literal["captions", "labels"]
# Kinds whose answers can hardly be guessed without the picture.
DESCRIPTIVE = frozenset(
    {
        "brief", "carrying", "choice_colour", "colour", "count", "count_none", "describe",
        "describe_two", "doing", "happening", "holding", "in_mouth", "label_bare",
        "label_kind", "label_name", "object_of", "sport", "title", "wearing",
        "what_animal", "what_animals", "what_is_it", "what_things", "where", "where_taken",
        "who", "who_does",
    }
)  # fmt: skip

# Of the name's visual tokens, how much a made-up name has at least; the rest is the naming tower's
# own. A tower that is unsure mixes names too, and the likeliest one is to be copied.
_LEAST_PERCENT = 65


_GROUP_SIZES = (2, 3, 4)


@dataclass(frozen=True)
class Questions:
    """What training is told about one photograph, or about several together."""

    files: Sequence[str]
    captions: Sequence[str]
    questions: Sequence[QA]
    conversations: Sequence[Sequence[QA]]
    queries: Sequence[str]
    model_inputs: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def descriptive(self) -> Questions:
        """The same with questions of the DESCRIPTIVE kinds alone."""
        kept = [qa for qa in self.questions if qa.kind in DESCRIPTIVE]
        return replace(self, questions=kept, conversations=())

    @property
    def undescribed(self) -> Questions:
        """The same, its captions only to be found by.

        "A photo of a zebra" is found by that, but is no answer to "Describe the picture.".
        """
        return replace(self, captions=(), queries=(*self.queries, *self.captions))

    @property
    def record(self) -> dict[str, object]:
        """Its line of index.jsonl."""
        own = {"model_inputs": dict(self.model_inputs)} if self.model_inputs else {}
        name, *others = self.files
        return {
            **({"files": [name, *others]} if others else {"file": name}),
            "captions": list(self.captions),
            "questions": [[qa.question, qa.answer, qa.kind] for qa in self.questions],
            "conversations": [
                [[qa.question, qa.answer] for qa in turns]
                for turns in self.conversations
            ],
            "queries": list(self.queries),
            **own,
        }


def write(
    index: Path,
    target: Path,
    seed: int,
    only: Only | None = None,
    *,
    held_out: bool = False,
    descriptive: bool = False,
    renamed: int = 0,
    together: int = 0,
) -> Counter[str]:
    """Writes the folder; returns how many questions of each kind it has.

    `descriptive` keeps those of the DESCRIPTIVE kinds alone, without conversations. With `renamed`
    there are so many entries of each labelled photograph, each under a made-up name, and no others;
    with `together` so many entries, each about a few captioned photographs, and no others.
    They are about the photographs for training, or about those that `photos.read` holds out. Raises
    DataInvalid.
    """
    split = read(index.parent, index.name)
    chosen = split.held_out if held_out else split.training
    made: Iterator[Questions]
    if renamed:
        photos = [photo for photo in chosen if photo.label]
        made = under_made_up_names(photos, seed, renamed)
    elif together:
        photos = [photo for photo in chosen if not photo.label]
        made = about_groups(photos, seed, together)
    else:
        made = generate([photo for photo in chosen if _is_wanted(photo, only)], seed)
    labelled = {photo.path.name for photo in chosen if photo.label}
    kinds: Counter[str] = Counter()
    lines = []
    for whole in made:
        asked = whole.descriptive if descriptive else whole
        # Evaluations rank held-out photographs by these captions.
        if not held_out and labelled.issuperset(asked.files):
            asked = asked.undescribed
        kinds.update(qa.kind for qa in asked.questions)
        kinds["conversation"] += len(asked.conversations)
        lines.append(json.dumps(asked.record, ensure_ascii=False) + "\n")
    if not kinds:
        raise DataInvalid(
            f"{index} has no photograph with a caption or a label to ask about"
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
        images = target / "images"
        if not images.exists():
            images.symlink_to(
                (index.parent / "images").resolve(), target_is_directory=True
            )
        (target / "index.jsonl").write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise DataInvalid(f"{target} cannot be written: {error}") from error
    return kinds


def _is_wanted(photo: Photo, only: Only | None) -> bool:
    if only is None:
        return True
    return bool(photo.label) == (only == "labels")


def generate(photos: Sequence[Photo], seed: int) -> Iterator[Questions]:
    """Questions about each photograph, in the order of the photographs."""
    read_captions: dict[Path, Photograph] = {}
    for photo in photos:
        if not photo.label:
            read_captions[photo.path] = Photograph.of(photo.captions)
    presence = Presence([each.nouns for each in read_captions.values()])
    labels = sorted({photo.label for photo in photos if photo.label})
    for photo in photos:
        # A generator for each photograph: one more in the index does not change the others.
        rng = random.Random(f"{seed}/{photo.path.name}")
        if photo.label:
            yield _about_label(photo.path.name, photo.label, labels, rng)
        else:
            yield _about_captions(
                photo.path.name, read_captions[photo.path], presence, rng
            )


def under_made_up_names(
    photos: Sequence[Photo], seed: int, count: int
) -> Iterator[Questions]:
    """Questions about labelled photographs, each under `count` names that it does not have."""
    tokenizer = load_tokenizer()
    names = MadeUpNames(tokenizer)
    labels = sorted({photo.label for photo in photos if photo.label})
    for photo in photos:
        rng = random.Random(f"{seed}/{photo.path.name}/renamed")
        for _ in range(count):
            name = names.draw(rng)
            yield Questions(
                [photo.path.name],
                label_questions.captions(name),
                label_questions.renamed(name, labels, rng),
                (),
                [name, named(name)],
                {
                    "name_ids": name_token_ids(name, tokenizer),
                    "name_percent": [rng.randint(_LEAST_PERCENT, 100)],
                },
            )


def about_groups(photos: Sequence[Photo], seed: int, count: int) -> Iterator[Questions]:
    """Questions about `count` groups of captioned photographs; fewer where nothing can be asked.

    Raises DataInvalid for fewer than two photographs.
    """
    if len(photos) < 2:
        raise DataInvalid("questions about several photographs need two with captions")
    rng = random.Random(f"{seed}/together")
    for _ in range(count):
        size = min(rng.choice(_GROUP_SIZES), len(photos))
        group = rng.sample(photos, size)
        asked = about_several.questions(
            [Photograph.of(photo.captions) for photo in group], rng
        )
        if asked:
            yield Questions([photo.path.name for photo in group], (), asked, (), ())


def _about_label(
    file: str, label: str, labels: Sequence[str], rng: random.Random
) -> Questions:
    return Questions(
        [file],
        label_questions.captions(label),
        label_questions.questions(label, labels, rng),
        (),
        label_questions.queries(label),
    )


def _about_captions(
    file: str, photo: Photograph, presence: Presence, rng: random.Random
) -> Questions:
    return Questions(
        [file],
        photo.captions,
        questions(photo, presence, rng),
        conversations(photo, rng),
        queries(photo, rng),
    )
