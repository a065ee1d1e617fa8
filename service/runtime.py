"""The composition root: creates everything that lives as long as the process, and closes it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from compressor.ports import (
    GenerationLimits,
    GenerationRequest,
    Generator,
    KeepsPrefixes,
    SummaryModel,
    TextReader,
    Turn,
)
from index.calibration import Calibration, read_calibration
from index.codecs.dictionary import words_per_token
from index.codecs.registry import read_shipped, state_files
from index.codecs.scalar import SELF_CONTAINED, TokenCodec
from index.collections import Collections
from index.errors import CodecStateMissing
from index.library import Library, open_library
from index.model_info import ModelInfo
from index.registry import (
    INDEXES,
    StorePlace,
    current_index_name,
    engine,
    store_engine,
)
from service.access import AccessControl
from service.api_keys import ApiKeys
from service.decoders import DecoderProcesses, memory_limit_bytes
from service.errors import InvalidInput, InvalidOption, NotReady, ServiceNotStarted
from service.idempotency import IdempotencyStore
from service.job_runner import JobRunner
from service.jobs import JobStore
from service.metrics import MeteredGenerator, MeteredSummaryModel, Metrics
from service.models import ModelFactory, Models
from service.rate_limits import Limits, RateLimits
from service.settings import Settings, default_model_dir, without_password
from service.tracing import TRACING, Tracing, check_traces
from service.use_cases.ask import Ask
from service.use_cases.ask_library import AskLibrary
from service.use_cases.chat import Chat
from service.use_cases.images import Decode, smaller
from service.use_cases.import_source import ImportSource
from service.use_cases.ingest import Ingest
from service.use_cases.search import Search
from service.use_cases.token_files import ImportTokens
from service.use_cases.views import Views
from service.worker.request_context import Stopwatch
from service.worker.worker import ModelWorker

# Marks a folder that `precis migrate --into` fills, until a service is started over it.
MIGRATING = "migrating"
JOB_UPLOADS = 16  # of the largest size that may wait in jobs


@dataclass(frozen=True)
class Services:
    """The use cases over one library."""

    library: Library
    ingest: Ingest
    search: Search
    ask: Ask
    ask_library: AskLibrary
    chat: Chat
    import_tokens: ImportTokens
    views: Views
    idempotency: IdempotencyStore


class Runtime:
    """One service in one process: model, library, use cases, metrics."""

    def __init__(
        self,
        settings: Settings,
        make_models: ModelFactory,
        *,
        decode: Decode | None = None,
        tracing: Tracing | None = None,
        worker: type[ModelWorker] = ModelWorker,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """`decode` is the caller's to close; by default it runs in processes of the runtime's.

        `tracing` is that of the settings by default. Raises ServiceNotStarted if its packages are
        not installed.
        """
        self.settings = settings
        self.tracing = tracing or TRACING[settings.traces]()
        self.metrics = Metrics()
        self.worker = worker(
            self._load,
            queue_size=settings.queue_size,
            batch_size=settings.batch_size,
            observe_batch=lambda work, size: self.metrics.batch_size.labels(
                work
            ).observe(size),
            on_failure=on_failure,
        )
        self._make_models = make_models
        self._decoders = ThreadPoolExecutor(
            settings.decode_threads, thread_name_prefix="decode"
        )
        self._opened = ExitStack()  # what `close` has to close
        self._opened.callback(self.tracing.close)
        self._decode = decode or self._decoder_processes()
        keys = ApiKeys(settings.data_dir)
        self._opened.callback(keys.close)
        self.access = AccessControl(settings, keys)
        self.rate_limits = RateLimits(
            Limits(settings.requests_per_minute, settings.body_bytes_per_day)
        )
        self._library: Library
        self._collections: Collections
        self._idempotency: IdempotencyStore
        self._jobs: JobRunner | None = None
        self._calibration: Calibration | None = None
        self._budgets: tuple[int, ...] = ()
        self._kept_tokens: int | None = None
        self._text_reader: TextReader | None = None
        self._reads_text = True
        for queue in self.worker.queues:
            gauge = self.metrics.slots_taken.labels(queue.kind)
            gauge.set_function(partial(getattr, queue, "slots_taken"))

    @property
    def collections(self) -> Collections:
        """The libraries with a name. Raises NotReady or ShuttingDown."""
        self.worker.check_ready()
        return self._collections

    @property
    def jobs(self) -> JobRunner:
        """The uploads that are worked on after their answer. Raises NotReady or ShuttingDown."""
        self.worker.check_ready()
        if self._jobs is None:
            raise NotReady("The library is being opened.")
        return self._jobs

    def services(self, collection: str | None = None) -> Services:
        """The use cases over a collection, or over the library without a name.

        Raises NotReady, ShuttingDown, index.errors.CollectionMissing and InvalidCollectionName.
        """
        self.worker.check_ready()
        library = (
            self._library if collection is None else self._collections.get(collection)
        )
        common = (self.worker, library, self._decoders, self._decode, self.settings)
        calibration = self._calibration
        of_answers = None if calibration is None else calibration.answers
        search = Search(*common, self._watch_of("search"), calibration)
        ingest = Ingest(
            *common,
            self._watch_of("ingest"),
            self._count_file,
            self._budgets,
            self._kept_tokens,
            self._text_reader,
        )
        ask = Ask(
            self.worker,
            library,
            search,
            self.settings,
            self._watch_of("ask"),
            of_answers,
            reads_text=self._reads_text,
        )
        return Services(
            library,
            ingest=ingest,
            search=search,
            ask=ask,
            ask_library=AskLibrary(ask, self.settings),
            chat=Chat(ask, ingest, library),
            import_tokens=ImportTokens(library, self._budgets),
            views=Views(self._decoders, self._decode),
            idempotency=self._idempotency,
        )

    def start(self) -> None:
        """Begins to load; returns at once."""
        self.worker.start()

    def close(self) -> None:
        """Stops the worker, then closes the libraries."""
        # Before the worker and the libraries, which it uses.
        if self._jobs is not None:
            self._jobs.close()
        self.worker.close()
        self._decoders.shutdown(cancel_futures=True)
        self._opened.close()

    def _decoder_processes(self) -> Decode:
        settings = self.settings
        processes = DecoderProcesses(
            timeout_s=settings.decode_timeout_s,
            max_memory_bytes=memory_limit_bytes(
                settings.max_image_pixels, settings.max_upload_bytes
            ),
            max_pixels_at_once=settings.max_image_pixels,
        )
        self._opened.callback(processes.close)
        return processes

    def _load(self) -> tuple[SummaryModel, Generator]:
        """Loads and warms up the model, and opens the libraries; runs on the worker's thread."""
        settings = self.settings
        models = self._make_models(settings)
        _warm_up(models, self._decode)
        calibration = settings.calibration or models.calibration
        if calibration is not None:
            self._calibration = read_calibration(
                calibration, models.summary.fingerprint
            )
        self._budgets = models.summary.description.budgets
        self._kept_tokens = models.kept_tokens
        self._text_reader = models.text_reader
        self._reads_text = models.reads_text
        self._library = library_of(models, settings, settings.data_dir)
        self._opened.callback(self._library.close)
        self._idempotency = IdempotencyStore(settings.data_dir)
        self._opened.callback(self._idempotency.close)
        (settings.data_dir / MIGRATING).unlink(missing_ok=True)
        place = store_place(settings)
        self._collections = Collections(
            settings.data_dir,
            lambda folder: library_of(models, settings, folder, folder.name),
            store_engine(place.setting).collections(place),
        )
        self._opened.callback(self._collections.close)
        jobs = JobStore(settings.data_dir, JOB_UPLOADS * settings.max_upload_bytes)
        self._opened.callback(jobs.close)
        self._jobs = JobRunner(
            jobs,
            lambda name: self.services(name).ingest,
            self._import_source,
            settings,
        )
        self._jobs.start()
        self.metrics.images.set_function(lambda: self._library.stats().images)
        self.metrics.count_collections(self._collections.image_counts)
        if isinstance(models.generator, KeepsPrefixes):
            self.metrics.count_prefixes(models.generator.prefix_stats)
        summary = MeteredSummaryModel(models.summary, self.metrics)
        return summary, MeteredGenerator(models.generator, self.metrics)

    def _import_source(self, path: str) -> ImportSource:
        """The pictures below a path in the import folder. Raises InvalidInput."""
        settings = self.settings
        if settings.import_dir is None:
            raise InvalidInput(
                "This service imports no pictures from its disk; see PRECIS_IMPORT_DIR."
            )
        root = settings.import_dir.resolve()
        return ImportSource(root, path, settings.max_upload_bytes)

    def _watch_of(self, work: str) -> Callable[[], Stopwatch]:
        """Makes the stopwatches of a use case."""
        return partial(Stopwatch, partial(self._observe_stage, work))

    def _observe_stage(
        self, work: str, stage: str, started_ns: int, ended_ns: int
    ) -> None:
        self.metrics.observe_stage(work, stage, started_ns, ended_ns)
        self.tracing.stage(f"{work}.{stage}", started_ns, ended_ns)

    def _count_file(self, status: str) -> None:
        self.metrics.ingested.labels(status).inc()


def check_settings(settings: Settings) -> None:
    """Finds mistakes in the settings that a start would find only once the model is loaded.

    It writes nothing. Raises ServiceNotStarted, and index.errors.UnknownEngine, ExtraMissing,
    CodecStateMissing and StoreError.
    """
    place = store_place(settings)
    chosen_store = store_engine(place.setting)
    engine(INDEXES, current_index_name(settings.index))
    for path in (settings.codec_state, settings.calibration, settings.adapters):
        if path is not None and not path.exists():
            raise ServiceNotStarted(f"There is no {path}.")
    check_traces(settings.traces)
    if settings.import_dir is not None and not settings.import_dir.is_dir():
        raise ServiceNotStarted(f"There is no folder {settings.import_dir}.")
    check_codec(settings)
    is_default = settings.model_dir == default_model_dir()
    if not is_default and not settings.model_dir.is_dir():
        raise ServiceNotStarted(
            f"There is no model in {settings.model_dir};"
            " `precis model build FOLDER` prepares the default one."
        )
    chosen_store.check(place)


def check_codec(settings: Settings) -> None:
    """Raises CodecStateMissing for a codec that no model could bring trained state for."""
    codec = settings.codec
    if codec is None or codec in SELF_CONTAINED or settings.codec_state is not None:
        return
    # A mixture may be the default model's own; adapters may have any codec's state, and so may
    # the library.
    own = [] if settings.adapters is None else state_files(settings.adapters)
    kept = state_files(settings.data_dir / "codecs")
    if words_per_token(codec) is None and codec not in {
        file.stem for file in own + kept
    }:
        names = ", ".join(sorted(SELF_CONTAINED))
        raise CodecStateMissing(
            f"codec {codec} is none of {names}, and there is no trained state of that name"
        )


def check_in_folder(settings: Settings) -> None:
    """Raises InvalidOption for a command on a data folder where the images are in a database."""
    if not store_engine(settings.store).in_folder:
        raise InvalidOption(
            f"The images are in {without_password(settings.store)}, and this command works on a"
            " data folder alone; docs/operations.md says what to use."
        )


def store_place(settings: Settings) -> StorePlace:
    """Where the store of the library without a name is."""
    return StorePlace(settings.data_dir, settings.store)


def library_of(
    models: Models, settings: Settings, folder: Path, collection: str | None = None
) -> Library:
    """The library in a folder, for images of this model. Raises index.errors.LibraryError."""
    model = models.summary
    codec, state = _codec_choice(models, settings)
    return open_library(
        folder,
        fingerprint=model.fingerprint,
        token_shape=model.tokens_shape,
        embedding_size=model.embedding_size,
        codec=codec,
        codec_state=state,
        store=settings.store,
        collection=collection,
        index=settings.index,
        model_info=ModelInfo(model.description.base_model, model.description.mode),
    )


def codec_of(models: Models, settings: Settings) -> TokenCodec:
    """The codec that a library of this model writes with. Raises index.errors.CodecError."""
    codec, state = _codec_choice(models, settings)
    if codec in SELF_CONTAINED:
        return SELF_CONTAINED[codec]()
    if state is None:
        raise CodecStateMissing(f"codec {codec} needs its trained state; name the file")
    return read_shipped(codec, state)


def _codec_choice(models: Models, settings: Settings) -> tuple[str, Path | None]:
    """Name and state file: those in the settings, or else the model's own."""
    own = models.codec_state
    codec = settings.codec or (own.stem if own else "sq8")
    return codec, settings.codec_state or (
        own if own and _serves(own.stem, codec) else None
    )


def _serves(state: str, codec: str) -> bool:
    """Whether the trained state of one codec is that of the other: a mixture's is for any size."""
    both_mixtures = bool(words_per_token(state) and words_per_token(codec))
    return state == codec or both_mixtures


def _warm_up(models: Models, decode: Decode) -> None:
    """One small call of each kind, so that no request pays for lazy initialisation."""
    picture = smaller(Image.new("RGB", (64, 64), "grey"), 64)
    decoded = decode(picture.data, max_pixels=64 * 64, max_side_px=64)
    if models.is_warm:
        return
    summary = models.summary.compress([decoded.image])
    models.summary.embed_text(["a photo"])
    request = GenerationRequest(
        [summary.tokens[0]], [Turn("user", "What is in the image?")]
    )
    for _ in models.generator.generate([request], [GenerationLimits(max_tokens=1)]):
        pass
