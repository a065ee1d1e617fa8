"""The bodies of requests and responses. Their docstrings and descriptions are part of the API."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from compressor.ports import Choice, Constraint, JsonSchema, Number
from index.codecs.scalar import WeightedWord
from index.model_info import ModelInfo
from index.ports import Record
from service.errors import InvalidInput
from service.jobs import Job, JobFile, JobPage
from service.use_cases.ask import Source
from service.use_cases.ask_library import Citation
from service.use_cases.near_duplicates import NearDuplicate
from service.use_cases.search import SearchHit, SearchResult

MAX_LIMIT = 200
MAX_OFFSET = 10_000


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # JSON can spell half of a surrogate pair, which UTF-8 cannot.
        raise ValueError("has half of a surrogate pair") from error
    return text


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("has characters that are not printable, or spaces around it")
    return text


Text = Annotated[str, AfterValidator(_unicode)]
TimingsMs = Annotated[
    dict[str, float], Field(description="Milliseconds by stage, and in all.")
]


class Input(BaseModel):
    """Base of request bodies: an unknown member is an error and not a silent nothing."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Problem(BaseModel):
    """What every error looks like (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="URN of the kind of problem: `urn:precis:problem:…`")
    title: str = Field(description="what this kind of problem is, in a few words")
    status: int = Field(description="HTTP status")
    detail: str | None = Field(
        None,
        description="what is wrong with this request, and what to do; null where only"
        " the log may say",
    )
    request_id: str = Field(
        description="the same as in the header `X-Request-ID` and in the log"
    )


class FileProblem(BaseModel):
    """Why one file of an upload was not stored."""

    type: str = Field(description="URN of the kind of problem")
    title: str = Field(description="what this kind of problem is, in a few words")
    status: int = Field(description="HTTP status that the file would have had alone")
    detail: str = Field(description="what is wrong with this file")


MODE = (
    "how its tokens were made: `adapters`, `soft words` or `soft words, one by one`; "
    "null as `model` is"
)


class TokensBody(BaseModel):
    """The summary tokens of an image, described."""

    count: int = Field(description="number of summary tokens that are kept")
    dim: int = Field(
        description="length of each token: the hidden size of the language model"
    )
    codec: str = Field(description="name of the token codec")
    bytes: int = Field(description="size of all tokens of the image, as stored")

    @classmethod
    def of(cls, record: Record) -> Self:
        """From a record."""
        return cls(
            count=record.token_count,
            dim=record.token_dim,
            codec=record.codec,
            bytes=len(record.tokens),
        )


class ImageBody(BaseModel):
    """A stored image."""

    id: str = Field(description="id of the image")
    sha256: str = Field(description="SHA-256 of the uploaded file")
    fingerprint: str = Field(description="fingerprint of the model that compressed it")
    model: str | None = Field(
        description="name of that model; null where the library does not know it"
    )
    mode: str | None = Field(description=MODE)
    tokens: TokensBody = Field(description="the summary tokens that are kept")
    width_px: int = Field(description="width of the picture")
    height_px: int = Field(description="height of the picture")
    created_at_ms: int = Field(
        description="when the image was stored: Unix time in milliseconds"
    )
    metadata: dict[str, Any] = Field(
        description="what is known of the image: uploaded with it, and read from the "
        "file"
    )

    @classmethod
    def of(cls, record: Record, model_info: ModelInfo | None) -> Self:
        """From a record and what made its tokens."""
        return cls(**_record_fields(record, model_info))


class WordBody(BaseModel):
    """A word of a summary token."""

    text: str = Field(
        description="a token of the language model; a space before it where a word "
        "begins"
    )
    weight: float = Field(
        description="share of the word in the summary token; negative where its "
        "embedding is subtracted"
    )

    @classmethod
    def of(cls, word: WeightedWord) -> Self:
        """From a word of a summary token."""
        return cls(text=word.text, weight=round(word.weight, 4))


class DetailedBody(ImageBody):
    """A stored image, and what its summary tokens say."""

    words: list[list[WordBody]] | None = Field(
        description="the words of each summary token, heaviest first; null where the "
        "codec keeps no words"
    )

    @classmethod
    def of_words(
        cls,
        record: Record,
        model_info: ModelInfo | None,
        words: Sequence[Sequence[WeightedWord]] | None,
    ) -> Self:
        """From a record, what made its tokens, and its words."""
        if words is None:
            return cls(words=None, **_record_fields(record, model_info))
        bodies = [[WordBody.of(word) for word in token] for token in words]
        return cls(words=bodies, **_record_fields(record, model_info))


class NearDuplicateBody(BaseModel):
    """A stored image that is nearly the same as a new one."""

    id: str = Field(description="id of the stored image")
    score: float = Field(description="cosine of the two embeddings")

    @classmethod
    def of(cls, near: NearDuplicate) -> Self:
        """From what was found."""
        return cls(id=near.id, score=near.score)


class StoredBody(ImageBody):
    """A file of an upload whose image is stored."""

    status: Literal["created", "exists"] = Field(
        description="`created`, or `exists` for a file that was stored before"
    )
    filename: str = Field(description="name of the file in the upload")
    notes: list[str] = Field(
        [], description="parts of the file, such as EXIF, that could not be read"
    )
    near_duplicates: list[NearDuplicateBody] = Field(
        [],
        description="for a new image: stored images that are nearly the same, nearest"
        " first",
    )

    @classmethod
    def of_file(
        cls,
        record: Record,
        model_info: ModelInfo | None,
        *,
        status: Literal["created", "exists"],
        filename: str,
        notes: Sequence[str] = (),
        near_duplicates: Sequence[NearDuplicate] = (),
    ) -> Self:
        """From a record, what made its tokens, and what the upload said of it."""
        return cls(
            status=status,
            filename=filename,
            notes=list(notes),
            near_duplicates=[NearDuplicateBody.of(near) for near in near_duplicates],
            **_record_fields(record, model_info),
        )


class FailedBody(BaseModel):
    """A file of an upload that was not stored."""

    status: Literal["failed"] = Field(description="the file was not stored")
    filename: str = Field(description="name of the file in the upload")
    sha256: str = Field(description="SHA-256 of the file")
    error: FileProblem = Field(description="why it was not stored")


class UploadBody(BaseModel):
    """What became of each file of an upload, in order."""

    images: list[StoredBody | FailedBody] = Field(
        description="one entry for each file, in the order of the upload"
    )
    timings_ms: TimingsMs


class TokensStoredBody(BaseModel):
    """What became of each file of tokens, in order."""

    images: list[StoredBody] = Field(
        description="one entry for each file, in the order of the upload"
    )


class EmbeddingsInput(Input):
    """Texts to embed."""

    texts: list[Text] = Field(
        min_length=1, description="the texts to embed, at most PRECIS_QUEUE_SIZE"
    )


class EmbeddingsBody(BaseModel):
    """Embeddings of texts, in order, each of length 1."""

    embeddings: list[list[float]] = Field(description="one vector for each text")
    fingerprint: str = Field(
        description="fingerprint of the model: only images of this model can be "
        "compared with the vectors"
    )
    timings_ms: TimingsMs


class JobFileBody(BaseModel):
    """A file of a job."""

    filename: str = Field(description="name of the file")
    status: Literal["waiting", "created", "exists", "failed", "cancelled"] = Field(
        description="`waiting`, or what became of the file"
    )
    id: str | None = Field(description="id of the image, once it is stored")
    error: FileProblem | None = Field(
        description="why the file failed; null unless it did"
    )

    @classmethod
    def of(cls, file: JobFile) -> Self:
        """From a file of a job."""
        outcome = file.outcome
        if outcome is None:
            return cls(filename=file.filename, status="waiting", id=None, error=None)
        error = None if outcome.error is None else FileProblem(**outcome.error)
        return cls(
            filename=file.filename,
            status=outcome.status,
            id=outcome.image_id,
            error=error,
        )


class ImportInput(Input):
    """Pictures on the service's own disk to be imported."""

    path: Text = Field(
        min_length=1,
        max_length=4096,
        description="a picture, a folder, a tar or a Parquet file below "
        "PRECIS_IMPORT_DIR; `.` for "
        "all of it",
    )
    metadata: dict[str, Any] = Field(
        {},
        description="metadata for every picture; it wins over what is found beside a "
        "picture",
    )
    tokens: int | None = Field(
        None,
        ge=1,
        description="keep only the first so many summary tokens: one of the model's "
        "budgets",
    )


class JobSummaryBody(BaseModel):
    """A job without its files."""

    id: str = Field(description="id of the job")
    state: Literal["waiting", "running", "done", "cancelled"] = Field(
        description="`waiting` to begin, `running`, `done`, or `cancelled`"
    )
    path: str | None = Field(description="path of an import; null for an upload")
    created_at_ms: int = Field(
        description="when the job was accepted: Unix time in milliseconds"
    )
    started_at_ms: int | None = Field(
        description="when work on it began; null before that"
    )
    finished_at_ms: int | None = Field(description="when it ended; null before that")
    counts: dict[str, int] = Field(description="number of files by status")
    passed_over: dict[str, int] = Field(
        description="number of files of an import that are no pictures, by reason"
    )
    files_per_s: float | None = Field(
        description="files a second while the job was worked on; null before its "
        "first files"
    )
    remaining_s: float | None = Field(
        description="time for the waiting files at that rate; null while it is unknown"
    )

    @classmethod
    def of(cls, job: Job) -> Self:
        """From a job."""
        return cls(**_job_fields(job))


class JobBody(JobSummaryBody):
    """An upload or an import that is worked on after its answer."""

    files: list[JobFileBody] = Field(
        description="the files of an upload; for an import only those that failed"
    )

    @classmethod
    def of(cls, job: Job) -> Self:
        """From a job."""
        files = [JobFileBody.of(file) for file in job.files]
        return cls(files=files, **_job_fields(job))


class JobsBody(BaseModel):
    """A part of the list of jobs, newest first."""

    jobs: list[JobSummaryBody] = Field(description="the jobs of this page")
    next_cursor: str | None = Field(
        description="`cursor` of the next page; null on the last"
    )

    @classmethod
    def of(cls, page: JobPage) -> Self:
        """From a page of jobs."""
        jobs = [JobSummaryBody.of(job) for job in page.jobs]
        return cls(jobs=jobs, next_cursor=page.next_cursor)


class PageBody(BaseModel):
    """A part of the list of images, in the order asked for."""

    images: list[ImageBody] = Field(description="the images of this page")
    next_cursor: str | None = Field(
        description="`cursor` of the next page; null on the last"
    )


class HitBody(ImageBody):
    """An image that was found."""

    score: float = Field(description="cosine of the image's embedding and the query's")
    probability: float | None = Field(
        description="probability that the image matches the text; null where the "
        "model has no calibration"
    )
    by_text: bool = Field(
        description="whether every word of the query was read in the picture"
    )

    @classmethod
    def of_hit(cls, hit: SearchHit) -> Self:
        """From a hit of a search."""
        fields = _record_fields(hit.record, hit.model_info)
        return cls(
            score=hit.score,
            probability=hit.probability,
            by_text=hit.by_text,
            **fields,
        )


class SearchBody(BaseModel):
    """Images found, best first."""

    results: list[HitBody] = Field(
        description="the images found, in the order asked for"
    )
    timings_ms: TimingsMs

    @classmethod
    def of(cls, result: SearchResult) -> Self:
        """From the result of a search."""
        hits = [HitBody.of_hit(hit) for hit in result.hits]
        return cls(results=hits, timings_ms=result.timings_ms)


class CollectionBody(BaseModel):
    """A collection."""

    name: str = Field(description="name of the collection")


class CollectionsBody(BaseModel):
    """All collections."""

    collections: list[CollectionBody] = Field(
        description="all collections, in alphabetical order"
    )


class TurnInput(Input):
    """A turn of a conversation."""

    role: Literal["user", "assistant"] = Field(description="who said it")
    text: Text = Field(description="what was said")


MAX_SCHEMA_CHARS = 16_384


class YesNoFormat(Input):
    """The answer is `Yes` or `No`."""

    type: Literal["yes_no"] = Field(description="the answer is `Yes` or `No`")

    def constraint(self) -> Constraint:
        """For the generator."""
        return Choice(("Yes", "No"))


class ChoiceFormat(Input):
    """The answer is one of these texts."""

    type: Literal["choice"] = Field(description="the answer is one of `options`")
    options: list[
        Annotated[Text, Field(min_length=1, max_length=200), AfterValidator(_printable)]
    ] = Field(min_length=1, max_length=100, description="the texts to choose from")

    def constraint(self) -> Constraint:
        """For the generator."""
        return Choice(tuple(self.options))


class NumberFormat(Input):
    """The answer is a decimal number."""

    type: Literal["number"] = Field(description="the answer is a decimal number")

    def constraint(self) -> Constraint:
        """For the generator."""
        return Number()


class JsonFormat(Input):
    """The answer is JSON as a JSON schema says, without white space between its parts."""

    type: Literal["json_schema"] = Field(description="the answer is JSON")
    json_schema: dict[str, Any] = Field(
        alias="schema", description="the JSON schema that the answer follows"
    )

    def constraint(self) -> Constraint:
        """For the generator. Raises InvalidInput."""
        return json_constraint(self.json_schema)


def json_constraint(schema: Mapping[str, Any]) -> JsonSchema:
    """The constraint of a JSON schema. Raises InvalidInput for one that is too long or deep."""
    try:
        text = json.dumps(schema)
    except RecursionError as error:
        raise InvalidInput("The schema is nested too deep.") from error
    if len(text) > MAX_SCHEMA_CHARS:
        raise InvalidInput(f"A schema has at most {MAX_SCHEMA_CHARS} characters.")
    return JsonSchema(text)


AnswerFormat = Annotated[
    YesNoFormat | ChoiceFormat | NumberFormat | JsonFormat, Field(discriminator="type")
]


class QuestionInput(Input):
    """A question about images."""

    question: Text = Field(description="the question")
    where: dict[str, Any] | None = Field(
        None, description="search only images whose metadata pass this filter"
    )
    tags: list[Text] = Field(
        [], max_length=32, description="search only images that have all these tags"
    )
    history: list[TurnInput] = Field(
        [],
        description="the conversation that the question continues, oldest turn first",
    )
    max_tokens: int = Field(64, ge=1, description="longest answer, in tokens")
    format: AnswerFormat | None = Field(
        None, description="the form that the answer must have; any by default"
    )
    stream: bool = Field(False, description="answer as server-sent events")


class AskInput(QuestionInput):
    """A question about images: those named, or those that a search for the question finds."""

    image_ids: list[Text] | None = Field(
        None,
        min_length=1,
        description="ids of the images to ask about; left out, a search for the "
        "question finds them",
    )
    limit: int = Field(
        1,
        ge=1,
        description="how many images the search finds, where `image_ids` is left out",
    )


class LibraryInput(QuestionInput):
    """A question about the whole library."""

    limit: int | None = Field(
        None,
        ge=1,
        description="how many images to answer from, at most PRECIS_MAX_ASK_IMAGES; 4"
        " by default",
    )


class SourceBody(BaseModel):
    """An image that an answer was made from."""

    id: str = Field(description="id of the image")
    score: float | None = Field(
        description="cosine to the question; null for an image that the caller named"
    )
    model: str | None = Field(description="name of the model that compressed it")
    mode: str | None = Field(description=MODE)

    @classmethod
    def of_source(cls, source: Source) -> Self:
        """From an image that an answer was made from."""
        return cls(id=source.id, score=source.score, **_model_fields(source.model_info))


class UsageBody(BaseModel):
    """Tokens that the second pass read and wrote."""

    prompt_tokens: int = Field(
        description="tokens of the prompt, summary tokens included"
    )
    completion_tokens: int = Field(description="tokens of the answer")


class AnswerBody(BaseModel):
    """An answer and what it was made from."""

    answer: str = Field(description="the answer")
    images: Sequence[SourceBody] = Field(
        description="the images that the answer was made from"
    )
    source: Literal["model", "ocr", "rule"] = Field(
        description="what answered: `model`, from the summary tokens; `ocr`, the "
        "model with the text that was read in the pictures; `rule`, where"
        " the question is about text that nobody has read"
    )
    confidence: float | None = Field(
        description="probability that the answer is right; the mean probability of "
        "its tokens where the model has no calibration of answers; null "
        "where the generator knows neither"
    )
    unsure: bool | None = Field(
        description="whether `confidence` is below the threshold of the calibration; "
        "null where there is none"
    )
    finish_reason: Literal["stop", "length"] = Field(
        description="`stop` at the end of the answer, `length` where it was cut off "
        "at `max_tokens`"
    )
    usage: UsageBody = Field(description="what the answer cost, in tokens")
    timings_ms: TimingsMs


class CitationBody(SourceBody):
    """An image that an answer from the whole library was made from."""

    answer: str | None = Field(
        description="what this image alone answers; null where it could not be asked"
    )
    confidence: float | None = Field(description="confidence of that answer")
    cited: bool | None = Field(
        description="whether this image alone gives the answer; null where it could not be "
        "asked, and where the answer is that the model cannot tell"
    )

    @classmethod
    def of_citation(cls, citation: Citation, answer: str) -> Self:
        """From an image that this answer was made from."""
        source = citation.source
        return cls(
            id=source.id,
            score=source.score,
            answer=None if citation.answer is None else citation.answer.strip(),
            confidence=citation.confidence,
            cited=citation.is_cited(answer),
            **_model_fields(source.model_info),
        )


class LibraryAnswerBody(AnswerBody):
    """An answer from the whole library."""

    query: str = Field(
        description="the text that was searched for, made from the question"
    )
    images: Sequence[CitationBody] = Field(
        description="the images that the answer was made from; those with `cited` "
        "bear it out"
    )


class PieceBody(BaseModel):
    """A piece of an answer, in a stream."""

    text: str = Field(description="the next characters of the answer")


class HealthBody(BaseModel):
    """The service is alive, or ready."""

    status: Literal["alive", "ready"] = Field(
        description="`alive` as soon as it listens, `ready` once the model is loaded"
    )


def _job_fields(job: Job) -> dict[str, Any]:
    """What a job's bodies have in common."""
    counts = Counter(job.counts)
    worked_on = counts.total() - counts["waiting"] - counts["cancelled"]
    rate = worked_on / job.busy_s if job.busy_s else None
    imported = job.imported
    is_counted = imported is None or imported.total is not None
    return {
        "id": job.id,
        "state": job.state,
        "path": imported.path if imported else None,
        "created_at_ms": job.created_at_ms,
        "started_at_ms": job.started_at_ms,
        "finished_at_ms": job.finished_at_ms,
        "counts": job.counts,
        "passed_over": imported.passed_over if imported else {},
        "files_per_s": rate,
        "remaining_s": counts["waiting"] / rate if rate and is_counted else None,
    }


def _record_fields(record: Record, model_info: ModelInfo | None) -> dict[str, Any]:
    return {
        "id": record.id,
        "sha256": record.sha256,
        "fingerprint": record.fingerprint,
        **_model_fields(model_info),
        "tokens": TokensBody.of(record),
        "width_px": record.width_px,
        "height_px": record.height_px,
        "created_at_ms": record.created_at_ms,
        "metadata": dict(record.metadata),
    }


def _model_fields(model_info: ModelInfo | None) -> dict[str, str | None]:
    return {
        "model": model_info.model if model_info else None,
        "mode": model_info.mode if model_info else None,
    }
