"""The wordings of questions about images, ten or more for each kind.

Knows nothing of answers.
"""

from __future__ import annotations

import random

PLAIN_NAMING = "What is in the image?"

IMAGE_WORDS = ("image", "picture", "photo")
# {i}: image, picture, …; {n}: a name with its article; {s}: a name alone; {p}: its plural; {o}: another name;
# {d}: left, right, above, below; {r}: "to the left of" …; {c}: a colour word
WORDINGS: dict[str, tuple[str, ...]] = {
    "naming": (
        PLAIN_NAMING, "What is in the {i}?", "What does the {i} show?", "What can you see in the {i}?",
        "What is shown in the {i}?", "What do you see?", "What is this?", "What objects are in the {i}?",
        "Name what is in the {i}.", "What is depicted here?", "What is pictured in the {i}?",
        "Which things are in the {i}?", "What appears in the {i}?",
    ),
    "background": (
        "What colour is the background?", "What color is the background?", "What is the background colour?",
        "What is the background color?", "What is the colour of the background?",
        "What is the color of the background?", "Which colour is the background of the {i}?",
        "What color is behind the objects?", "Name the background colour.",
        "On what colour of background is the {i}?", "What color does the background have?",
        "The background of the {i} is what colour?",
    ),
    "count": (
        "How many {p} are there?", "How many {p} are in the {i}?", "How many {p} can you see?", "Count the {p}.",
        "How many {p} does the {i} show?", "What is the number of {p}?", "How many {p} do you see in the {i}?",
        "How many {p} are shown?", "What number of {p} is in the {i}?", "Can you count the {p} in the {i}?",
        "There are how many {p}?",
    ),
    "count_all": (
        "How many objects are there?", "How many objects are in the {i}?", "How many things are in the {i}?",
        "How many things can you see?", "Count the objects.", "How many items are there in the {i}?",
        "What is the number of objects in the {i}?", "How many objects does the {i} show?",
        "Count the things in the {i}.", "How many items can you see?", "In total, how many objects are there?",
    ),
    "exists": (
        "Is there {n}?", "Is there {n} in the {i}?", "Can you see {n}?", "Does the {i} show {n}?",
        "Do you see {n} in the {i}?", "Does the {i} contain {n}?", "Is {n} in the {i}?", "Is {n} shown in the {i}?",
        "Is {n} visible?", "Is there {n} here?", "Are there any {p} in the {i}?", "Are there any {p}?",
    ),
    "side": (
        "Is the {s} to the left or to the right of the {o}?", "Is the {s} left or right of the {o}?",
        "On which side of the {o} is the {s}, left or right?", "Left or right: where is the {s} relative to the {o}?",
        "Is the {s} on the left or on the right of the {o}?", "The {s} is on which side of the {o}?",
        "To which side of the {o} is the {s}?", "Which side of the {o} is the {s} on?",
        "Compared with the {o}, is the {s} left or right?",
        "Is the {s} on the left side or the right side of the {o}?",
    ),
    "height": (
        "Is the {s} above or below the {o}?", "Is the {s} over or under the {o}, above or below?",
        "Above or below: where is the {s} relative to the {o}?",
        "Is the {s} higher than the {o} (above) or lower (below)?", "Is the {s} placed above or below the {o}?",
        "Compared with the {o}, is the {s} above or below?", "In the {i}, is the {s} above or below the {o}?",
        "Does the {s} lie above or below the {o}?", "Where is the {s}, above or below the {o}?",
        "Tell me if the {s} is above or below the {o}.",
    ),
    "where": (
        "Where is the {s}?", "Where is the {s} in the {i}?", "In which part of the {i} is the {s}?",
        "Where can you see the {s}?", "What is the position of the {s}?", "In what area of the {i} is the {s}?",
        "Where in the {i} is the {s}?", "Where does the {s} appear?", "Where is the {s} located?",
        "Which part of the {i} shows the {s}?",
    ),
    "where_across": (
        "Is the {s} on the left or on the right?", "Is the {s} on the left or right of the {i}?",
        "Is the {s} on the left side or the right side of the {i}?", "Left or right: where is the {s}?",
        "Which side is the {s} on, left or right?", "On which side of the {i} is the {s}?",
        "On which side is the {s}?", "Does the {s} appear on the left or on the right?",
        "In which half of the {i} is the {s}, left or right?", "Is the {s} in the left half or the right half?",
    ),
    "where_down": (
        "Is the {s} at the top or at the bottom?", "Is the {s} at the top or bottom of the {i}?",
        "Is the {s} in the top half or the bottom half of the {i}?", "Top or bottom: where is the {s}?",
        "In which half is the {s}, top or bottom?", "Does the {s} appear at the top or at the bottom?",
        "Is the {s} near the top or near the bottom?", "Where is the {s}, top or bottom?",
        "Is the {s} in the top part or in the bottom part of the {i}?",
        "Is the {s} close to the top or the bottom edge?",
    ),
    "what_beside": (
        "What is to the {d} of the {o}?", "What is on the {d} of the {o}?", "Which object is to the {d} of the {o}?",
        "What can you see to the {d} of the {o}?", "Name the object to the {d} of the {o}.",
        "What lies to the {d} of the {o}?", "What is there to the {d} of the {o}?",
        "What thing is to the {d} of the {o} in the {i}?", "To the {d} of the {o}, what is there?",
        "Which thing is on the {d} side of the {o}?",
    ),
    "what_above": (
        "What is {d} the {o}?", "Which object is {d} the {o}?", "What can you see {d} the {o}?",
        "Name the object {d} the {o}.", "What lies {d} the {o}?", "What is there {d} the {o}?",
        "What thing is {d} the {o} in the {i}?", "In the {i}, what is {d} the {o}?", "What is shown {d} the {o}?",
        "Which thing appears {d} the {o}?",
    ),
    "relation_true": (
        "Is the {s} {r} the {o}?", "In the {i}, is the {s} {r} the {o}?", "Is it true that the {s} is {r} the {o}?",
        "Can you see the {s} {r} the {o}?", "Does the {s} lie {r} the {o}?", "Is the {s} placed {r} the {o}?",
        "Does the {i} show the {s} {r} the {o}?", "Would you say the {s} is {r} the {o}?",
        "The {s} is {r} the {o}, right?", "Is there {n} {r} the {o}?",
    ),
    "colour": (
        "What colour is the {s}?", "What color is the {s}?", "What is the colour of the {s}?",
        "What is the color of the {s}?", "Which colour is the {s}?", "What colour does the {s} have?",
        "What color does the {s} have?", "Name the colour of the {s}.", "Name the main color of the {s}.",
        "What is the main colour of the {s}?", "In the {i}, what color is the {s}?",
    ),
    "colour_many": (
        "What colour are the {p}?", "What color are the {p}?", "What is the colour of the {p}?",
        "Which colour are the {p}?", "What is the color of the {p}?", "What colour do the {p} have?",
        "What color do the {p} have?", "Name the colour of the {p}.", "What is the main color of the {p}?",
        "In the {i}, what colour are the {p}?",
    ),
    "is_background": (
        "Is the background {c}?", "Is the background of the {i} {c}?", "Does the {i} have a {c} background?",
        "Is there a {c} background?", "Is {c} the colour of the background?", "Is {c} the color of the background?",
        "Do you see a {c} background?", "Is it on a {c} background?", "Is the {i}'s background {c}?",
        "Would you call the background {c}?",
    ),
    "caption": (
        "Describe the image.", "Describe the {i}.", "Give a short description of the {i}.",
        "Write a caption for the {i}.", "What is happening in the {i}?", "Caption this {i}.",
        "Describe what you see.", "Describe this {i} in one sentence.", "Summarise the {i}.",
        "Tell me about the {i}.",
    ),
}  # fmt: skip


def worded(kind: str, rng: random.Random, plain: bool = False, **words: str) -> str:
    """A random wording of a kind of question, or the plainest, with its gaps filled."""
    return (WORDINGS[kind][0] if plain else rng.choice(WORDINGS[kind])).format(i=rng.choice(IMAGE_WORDS), **words)
