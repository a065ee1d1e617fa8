"""An image as text, for programs that pass text to a language model."""

from __future__ import annotations

from precis_client.picture_paths import FILENAME
from precis_client.results import DetailedImage

# The service's key of what it has read in a picture, see docs/api.md.
TEXT, LINES = "text", "lines"


def image_text(image: DetailedImage) -> str:
    """What is known of an image without a question: file name, words of its tokens, text in it.

    A line for each that is known; the id if nothing is.
    """
    lines = []
    filename = image.metadata.get(FILENAME)
    if isinstance(filename, str) and filename:
        lines.append(f"File: {filename}")
    words = heaviest_words(image)
    if words:
        lines.append(f"Words: {', '.join(words)}")
    text = image.metadata.get(TEXT)
    if isinstance(text, dict) and text.get(LINES):
        lines.append(f"Text in the picture: {' / '.join(map(str, text[LINES]))}")
    return "\n".join(lines) or f"Image {image.id}"


def heaviest_words(image: DetailedImage) -> list[str]:
    """The heaviest word of each summary token, each once, in the order of the tokens.

    Tokens that stand for punctuation, as those at the end of a summary do, have none.
    """
    heaviest = [words[0].text.strip() for words in image.words or () if words]
    return list(dict.fromkeys(word for word in heaviest if any(map(str.isalnum, word))))
