"""Short texts that people search with, and which photographs they are right of.

Knows nothing of models. Unlike a caption, such a text may be right of many photographs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from compressor.training.data.photos import Photo
from compressor.training.data.vocabulary import with_article

_CAPTIONS_THAT_SAY = 2  # of one photograph: what a single one says may be a detail
_FORMS = ("a photo of {}", "{}")


def searches(photo: Photo, nouns: Collection[str]) -> list[str]:
    """Its label without an article; or each of `nouns` that several of its captions say, in the forms searched for."""
    if photo.label:
        return [photo.label]
    said = Counter(word for text in photo.captions for word in set(re.findall("[a-z]+", text.lower())))
    found = sorted(word for word, count in said.items() if count >= _CAPTIONS_THAT_SAY and word in nouns)
    return [text for word in found for text in (*(form.format(with_article(word)) for form in _FORMS), word)]
