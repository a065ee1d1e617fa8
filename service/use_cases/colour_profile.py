"""Colours of a picture with an ICC profile, as sRGB, which the model was trained on."""

from __future__ import annotations

import io

from PIL import Image, ImageCms

_MODE = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # by a profile's colour space
_UNREADABLE = "The colour profile is damaged or does not fit; it was ignored."


def to_srgb(
    image: Image.Image, profile: bytes | None
) -> tuple[Image.Image, str | None]:
    """The image in sRGB, as RGB or RGBA; or as it was, without a profile or if it is sRGB's.

    With a note where the profile cannot be used.
    """
    if not profile:
        return image, None
    try:
        return _converted(image, profile), None
    except (OSError, ValueError, ImageCms.PyCMSError):
        return image, _UNREADABLE


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if "srgb" in ImageCms.getProfileDescription(source).lower():
        return image
    mode = _MODE.get(source.profile.xcolor_space, "")
    is_grey_in_rgb = image.mode in ("L", "LA") and mode == "RGB"
    if is_grey_in_rgb or image.mode == "LA":
        image = image.convert("RGBA" if image.mode == "LA" else "RGB")
    has_alpha = image.mode == "RGBA"
    if image.mode.removesuffix("A") != mode:
        raise ValueError(f"a profile for {mode} does not fit an image of {image.mode}")
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(
        image.convert(mode) if has_alpha else image, source, srgb, outputMode="RGB"
    )
    if converted is None:
        raise ValueError("the colours were not converted")
    if has_alpha:
        converted.putalpha(image.getchannel("A"))
    return converted
