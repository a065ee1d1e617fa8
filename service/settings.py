"""Settings of the service: one frozen object, from flags, the environment (PRECIS_*) or a file.

No other module reads the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from platformdirs import user_cache_path, user_config_path, user_data_path
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

MIB = 1024 * 1024
APP_NAME = "precis"  # of the platform's folders for each application
# The default of earlier versions, relative to the working folder.
EARLIER_DATA_DIR = Path("data")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_ORIGIN = re.compile(r"https?://[^/\s,*?#@]+")


def default_data_dir() -> Path:
    """Where the platform keeps a user's data: on Linux `~/.local/share/precis`."""
    return user_data_path(APP_NAME, appauthor=False)


def default_model_dir() -> Path:
    """Where the platform keeps what can be made again: on Linux `~/.cache/precis`."""
    return user_cache_path(APP_NAME, appauthor=False)


def settings_file() -> Path:
    """The file with settings: on Linux `~/.config/precis/precis.toml`. It need not exist."""
    return user_config_path(APP_NAME, appauthor=False) / "precis.toml"


class Settings(BaseSettings):
    """All settings of the service; every field is also a flag of `precis serve`.

    Raises tomllib.TOMLDecodeError or UnicodeDecodeError for a settings file that is no TOML.
    """

    model_config = SettingsConfigDict(env_prefix="PRECIS_", frozen=True, extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """See BaseSettings: the first source that has a value wins."""
        in_file = TomlConfigSettingsSource(settings_cls, settings_file())
        return init_settings, env_settings, in_file

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        8000, ge=0, le=65_535, description="Port to listen on; 0 picks a free one."
    )
    api_key: SecretStr | None = Field(
        None,
        min_length=8,
        description="A key to everything: `Authorization: Bearer KEY`. More keys, with scopes, by"
        " `precis keys`. Requests need a key as soon as there is one.",
    )
    allow_anonymous: bool = Field(
        False,
        description="Serve requests without a key on an address other than loopback: whoever"
        " reaches it may read, write and delete. Otherwise such a service needs a key to start.",
    )

    cors_origins: str | None = Field(
        None,
        description="Origins of other sites, separated by commas, whose pages may call the"
        " service: `https://app.example`. None by default.",
    )

    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder of the library: store and index.",
    )
    store: str = Field(
        "sqlite",
        description="Where the token store is: sqlite (a file in the data folder), memory, the URL"
        " of a PostgreSQL database (extra `postgres`), or of a place for Lance datasets (extra"
        " `lance`): s3://, gs://, az:// or lance:///FOLDER.",
    )
    index: str = Field(
        "auto",
        description="Engine of the vector index: auto (exact up to 30,000 vectors, then"
        " approximate), flat (always exact), numpy or faiss-gpu.",
    )
    codec: str | None = Field(
        None,
        description="Codec for the summary tokens of new images. By default the model's own,"
        " or sq8 if it has none.",
    )
    codec_state: Path | None = Field(
        None, description="File with the trained state of a codec that needs one."
    )
    keep: Literal["none", "thumbnail", "original"] = Field(
        "thumbnail",
        description="Picture to keep beside the tokens: none, a small WebP, or the upload itself.",
    )

    model: str = Field(
        "default",
        description="Model to run: `default`, or `lvlm` for a vision-language model in a folder.",
    )
    model_dir: Path = Field(
        default_factory=default_model_dir,
        description="Folder of the converted default model, or of the LVLM as Hugging Face"
        " saves it.",
    )
    adapters: Path | None = Field(
        None,
        description="Folder of the adapters trained for the LVLM in model_dir; without them the"
        " LVLM runs training-free.",
    )
    soft_words: Literal["parallel", "sequential"] = Field(
        "parallel",
        description="How an LVLM without adapters makes its summary tokens: all in one forward"
        " pass, or one after the other, which costs K passes an image.",
    )
    device: str = Field(
        "auto",
        description="Device of both passes: auto, cpu, cuda, cuda:N or mps. auto is a GPU if"
        " there is one.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number format of the model. auto is bfloat16 on a GPU that supports it, and"
        " float32 on a CPU.",
    )
    first_pass_engine: Literal["auto", "onnx", "torch"] = Field(
        "auto",
        description="What runs the first pass: torch; onnx (ONNX Runtime on a CPU, from an export"
        " by `precis model build`; the same tokens, rounding apart); auto: that export if it works"
        " here, otherwise torch.",
    )
    second_pass_engine: Literal["auto", "onnx-int8", "onnx", "torch", "vllm"] = Field(
        "auto",
        description="What runs the second pass: torch; onnx-int8 or onnx (ONNX Runtime on a CPU,"
        " weights in int8 or float32, from an export by `precis model build`); auto: the first of"
        " these exports that works here, otherwise torch; or vllm (a vLLM server that serves what"
        " `precis export second-pass` wrote; extra `vllm`).",
    )
    second_pass_url: str | None = Field(
        None,
        description="The API of the vLLM server: `http://127.0.0.1:8001/v1`. Whoever reaches that"
        " server can stop it, so keep it private.",
    )
    prefix_cache_bytes: int = Field(
        256 * MIB,
        ge=0,
        description="Most bytes of keys and values that the engine onnx keeps of earlier prompts:"
        " a second question about the same images reads only itself. 0 keeps none.",
    )
    ocr: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether to read the text in new pictures: auto is on if RapidOCR is"
        " installed (extra `ocr`).",
    )
    calibration: Path | None = Field(
        None,
        description="File with the model's curves from scores to probabilities. By default the"
        " model's own; without curves hits have no probability.",
    )
    near_duplicate_score: float = Field(
        0.95,
        ge=0,
        le=1,
        description="Cosine of two images from which an upload is told that they are nearly the"
        " same. The default was measured with the default model.",
    )
    batch_size: int = Field(
        16,
        ge=1,
        le=1024,
        description="Most images, texts or answers in one pass of the model.",
    )
    queue_size: int = Field(
        64,
        ge=1,
        description="Most images that may wait or be in progress; the same for texts, and answers.",
    )
    image_side_px: int = Field(
        768,
        ge=64,
        le=8192,
        description="An image is reduced to this longer side before the model sees it.",
    )
    decode_threads: int = Field(
        default_factory=lambda: min(4, os.cpu_count() or 1),
        ge=1,
        description="Uploads that are decoded at once, each in a process of its own.",
    )
    decode_timeout_s: float = Field(
        30.0,
        gt=0,
        description="Longest time to decode one file, in seconds; then its process is ended.",
    )

    traces: Literal["off", "otlp"] = Field(
        "off",
        description="Whether to trace requests and their stages: otlp sends spans to a collector"
        " (extra `otel`), as the standard variables OTEL_* say.",
    )

    deadline_s: float = Field(
        120.0, gt=0, description="Longest time for one request, in seconds."
    )
    requests_per_minute: int | None = Field(
        None,
        ge=1,
        description="Most requests a minute with one API key; no limit by default. Requests"
        " without a key count together.",
    )
    body_bytes_per_day: int | None = Field(
        None,
        ge=1,
        description="Most bytes of request bodies a day with one API key; no limit by default.",
    )
    max_upload_bytes: int = Field(
        64 * MIB, ge=1024, description="Largest request body."
    )
    max_image_pixels: int = Field(
        64_000_000, ge=1, le=178_956_970, description="Largest image, width x height."
    )
    import_dir: Path | None = Field(
        None,
        description="Folder on this machine from which jobs may import pictures (`POST /jobs`)."
        " Whoever may write images can then import everything in it; links are not followed."
        " None by default.",
    )
    max_files: int = Field(
        64, ge=1, description="Most files in one upload; at most the queue size."
    )
    max_metadata_bytes: int = Field(
        256 * 1024, ge=2, description="Largest `metadata` field of one upload."
    )
    max_question_chars: int = Field(
        2000,
        ge=1,
        description="Longest question, turn or search text, in characters: counted before the"
        " model's tokenizer sees it.",
    )
    max_prompt_tokens: int = Field(
        4096,
        ge=1,
        description="Longest conversation with its question and images, in the model's tokens;"
        " the model's own context may hold less.",
    )
    max_answer_tokens: int = Field(256, ge=1, description="Longest answer, in tokens.")
    max_ask_images: int = Field(
        8, ge=1, description="Most images one question may be about."
    )

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, api_key: SecretStr | None) -> SecretStr | None:
        key = "" if api_key is None else api_key.get_secret_value()
        is_plain = key.isascii() and key.isprintable()
        # Clients disagree on how to send other characters; such a key would admit some of them.
        if not is_plain:
            raise ValueError("must be of printable ASCII characters")
        return api_key

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, cors_origins: str | None) -> str | None:
        for origin in origins_of(cors_origins):
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin such as https://app.example")
        return cors_origins

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):
            raise ValueError(f"must be auto, cpu, cuda, cuda:N or mps, not {device!r}")
        return device

    @model_validator(mode="after")
    def _an_upload_fits_the_queue(self) -> Self:
        if self.max_files > self.queue_size:
            raise ValueError(
                "max_files must not exceed queue_size; such an upload could never be accepted"
            )
        return self

    @model_validator(mode="after")
    def _an_engine_on_a_server_has_its_url(self) -> Self:
        if self.second_pass_engine == "vllm" and self.second_pass_url is None:
            raise ValueError("second_pass_engine vllm needs a second_pass_url")
        return self

    @model_validator(mode="after")
    def _adapters_exclude_soft_words(self) -> Self:
        if self.soft_words == "sequential" and self.adapters is not None:
            raise ValueError("soft_words is for an LVLM without adapters")
        return self


def origins_of(cors_origins: str | None) -> list[str]:
    """The origins that the setting `cors_origins` lists."""
    parts = (cors_origins or "").split(",")
    return [part.strip() for part in parts if part.strip()]


def without_password(store: str) -> str:
    """The setting `store` as it may be shown: a URL without user, password and parameters."""
    scheme, separator, rest = store.partition("://")
    place = rest.partition("?")[0].rpartition("@")[2]
    return f"{scheme}{separator}{place}"


Source = Literal["default", "environment", "file", "flag"]


def sources_of_settings(flags: Iterable[str]) -> dict[str, Source]:
    """Where the value of each setting comes from, when these are given as flags."""
    sources: dict[str, Source] = dict.fromkeys(Settings.model_fields, "default")
    in_file = TomlConfigSettingsSource(Settings, settings_file())()
    in_environment = EnvSettingsSource(Settings)()
    # The last one wins, as `Settings` ranks them.
    sources.update(dict.fromkeys(in_file, "file"))
    sources.update(dict.fromkeys(in_environment, "environment"))
    sources.update(dict.fromkeys(flags, "flag"))
    return sources
