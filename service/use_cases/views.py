"""Use case: the picture that was kept of an image, as it is or smaller."""

from __future__ import annotations

from concurrent.futures import Executor

from index.library import is_original
from index.ports import Picture, Record
from service.errors import PictureNotKept
from service.use_cases.images import THUMBNAIL_SIDE_PX, Decode, smaller
from service.worker.request_context import RequestContext


class Views:
    """Pictures of records that were read with their picture."""

    def __init__(self, decoders: Executor, decode: Decode) -> None:
        self._decoders = decoders
        self._decode = decode

    def thumbnail(self, record: Record, context: RequestContext) -> Picture:
        """No side longer than 256 px. Raises as `view` does."""
        return self.view(record, THUMBNAIL_SIDE_PX, context)

    def original(self, record: Record) -> Picture:
        """The upload itself. Raises PictureNotKept."""
        picture = record.picture
        # A record may hold a thumbnail, or what a service with another setting kept.
        if picture is None or not is_original(record, picture):
            raise PictureNotKept(
                "The service kept no original when this image was added; see PRECIS_KEEP."
            )
        return picture

    def view(self, record: Record, side_px: int, context: RequestContext) -> Picture:
        """A WebP of what was kept, original or thumbnail, no side longer than `side_px`.

        Raises PictureNotKept, PictureError, DeadlineExceeded, RequestCancelled.
        """
        kept = record.picture
        if kept is None:
            raise PictureNotKept(
                "The service kept no pictures when this image was added."
            )
        if side_px >= THUMBNAIL_SIDE_PX and not is_original(record, kept):
            return kept  # as small already
        work = self._decoders.submit(self._smaller, record, kept, side_px)
        (picture,) = context.wait([work])
        return picture

    def _smaller(self, record: Record, kept: Picture, side_px: int) -> Picture:
        # The original passed the limit when it was uploaded, whatever the limit is now.
        max_pixels = record.width_px * record.height_px
        decoded = self._decode(
            kept.data, max_pixels=max_pixels, max_side_px=2 * side_px
        )
        return smaller(decoded.image, side_px)
