"""Settings of the service: one frozen object, read from the environment (prefix PRECIS_) or given
by the caller.

Knows nothing of what the settings are used for. No other module reads the environment.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024


class Settings(BaseSettings):
    """What the service can be told from outside; every field is also a flag of `precis serve`."""

    model_config = SettingsConfigDict(env_prefix="PRECIS_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    api_key: SecretStr | None = Field(
        None,
        min_length=8,
        description="If set, every request for data must carry it: `Authorization: Bearer KEY`.",
    )

    data_dir: Path = Field(Path("data"), description="Folder of the library: store and index.")
    store: str = Field("sqlite", description="Engine of the token store.")
    index: str = Field(
        "auto",
        description="Engine of the vector index: auto (exact up to 30,000 vectors, then approximate),"
        " flat (always exact), numpy or faiss-gpu.",
    )
    codec: str | None = Field(
        None,
        description="Codec for the summary tokens of new images; left out, the model's own, or sq8.",
    )
    codec_state: Path | None = Field(
        None, description="File with the trained state of a codec that needs one."
    )
    keep: Literal["none", "thumbnail", "original"] = Field(
        "thumbnail",
        description="Picture kept beside the tokens: nothing, a small WebP, or the upload as it came.",
    )

    model: str = Field(
        "default", description="Model engine: `default`, or `lvlm` for one from a folder."
    )
    model_dir: Path = Field(
        Path(".cache/precis"),
        description="Folder of the prepared base model, or of the LVLM as Hugging Face saves it.",
    )
    adapters: Path | None = Field(
        None,
        description="Folder of the adapters trained for the LVLM in model_dir; without them it is training-free.",
    )
    soft_words: Literal["parallel", "sequential"] = Field(
        "parallel",
        description="Summary tokens of an LVLM without adapters: all in one forward pass, or one by one, "
        "each read before the next is made, at K passes an image.",
    )
    calibration: Path | None = Field(
        None,
        description="File with the model's curve from scores to probabilities; without it hits have none.",
    )
    batch_size: int = Field(
        16, ge=1, le=1024, description="Most images, texts or answers in one pass of the model."
    )
    queue_size: int = Field(
        64, ge=1, description="Most images (and as many texts, and answers) waiting or in work."
    )
    image_side_px: int = Field(
        768,
        ge=64,
        le=8192,
        description="Longer side to which an image is reduced before the model sees it.",
    )
    decode_threads: int = Field(
        default_factory=lambda: min(4, os.cpu_count() or 1),
        ge=1,
        description="Threads that decode uploads.",
    )

    deadline_s: float = Field(120.0, gt=0, description="Longest time for one request, seconds.")
    max_upload_bytes: int = Field(64 * MIB, ge=1024, description="Largest request body.")
    max_image_pixels: int = Field(
        64_000_000, ge=1, le=178_956_970, description="Largest image, width x height."
    )
    max_files: int = Field(
        64, ge=1, description="Most files in one upload; at most the queue size."
    )
    max_metadata_bytes: int = Field(
        256 * 1024, ge=2, description="Largest `metadata` field of one upload."
    )
    max_question_chars: int = Field(
        2000, ge=1, description="Longest question and longest search text."
    )
    max_answer_tokens: int = Field(256, ge=1, description="Most tokens one answer may have.")
    max_ask_images: int = Field(8, ge=1, description="Most images one question may be about.")

    @model_validator(mode="after")
    def _an_upload_fits_the_queue(self) -> Self:
        if self.max_files > self.queue_size:
            raise ValueError(
                "max_files must not exceed queue_size, or such an upload would never be let in"
            )
        return self

    @model_validator(mode="after")
    def _adapters_write_no_words(self) -> Self:
        if self.soft_words == "sequential" and self.adapters is not None:
            raise ValueError("soft_words is for an LVLM without adapters")
        return self
