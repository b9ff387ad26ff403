"""Imports the modules of lambda/ again, with stand-ins for everything that leaves the process.

Their source is the real one, optionally with a mutation. The modules that the rest of the process
has imported are not affected.
"""

import builtins
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any, Final

from simulation.clients import Boto3, Obstore
from simulation.wire import Network
from thumbnailer import imaging
from thumbnailer.imaging import Point, ThumbnailSpec

LAMBDA: Final = Path(__file__).parents[2] / "lambda"

BUCKETS: Final = ("simulated-input", "simulated-output")
INPUT, OUTPUT = BUCKETS
QUEUE: Final = "https://sqs.example/1/dead-letters"
ENVIRONMENT: Final = {"OUTPUT_BUCKET": OUTPUT, "DLQ_URL": QUEUE, "CDN_DISTRIBUTION": "E1"}

CORRUPT: Final = b"corrupt"
"""Bytes that begin like this cannot be decoded."""


AROUND: Final = {
    "webp": (b"RIFF\0\0\0\0WEBPVP8X" + (32).to_bytes(4, "little"), b""),
    "avif": (b"\0\0\0\x08ftyp\0\0\0\x28mdat", b""),
    "jpeg": (b"\xff\xd8", b"\xff\xd9"),
}
"""What is around the 32 bytes of a stand-in for a picture: the header of an extended WebP (VP8X),
two boxes of AVIF, or the start and end markers of JPEG."""

BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The time at which every simulation begins."""


class StoppedClock(datetime):
    """A stand-in for datetime, so that messages and marks are the same in each run of a seed."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """Return the time at which the simulation began."""
        return BEGIN.astimezone(tz)


class Code:
    """The function's code, for one seed after another.

    Each seed sets `network`, which receives the requests, and `log`, which receives the function's
    log lines as (action, arguments). It also sets `order`: the order in which a number of
    concurrent tasks run, and `invalidated`, which receives the keys that are invalidated in the
    CDN. `rewriters` maps names of modules to functions that change their source.
    """

    network: Network
    log: Callable[[str, tuple[Any, ...]], None]
    order: Callable[[int], list[int]]
    invalidated: Callable[[Sequence[str]], None]

    def __init__(self, rewriters: Mapping[str, Callable[[str], str]] | None = None) -> None:
        self._rewriters = rewriters or {}
        self._modules: dict[str, Any] = {}
        obstore = Obstore(self)
        self._stand_ins: dict[str, Any] = {
            "os": SimpleNamespace(environ=dict(ENVIRONMENT)),
            "datetime": SimpleNamespace(UTC=UTC, timedelta=timedelta, datetime=StoppedClock),
            "time": SimpleNamespace(monotonic=self.now, perf_counter=self.now),
            "obstore": obstore,
            "obstore.store": obstore,
            "boto3": Boto3(self),
            "concurrent.futures": SimpleNamespace(
                Future=InlineFuture,
                ThreadPoolExecutor=lambda _: InlineExecutor(),
                wait=self._wait_for,
            ),
            "thumbnailer.imaging": SimpleNamespace(
                **{name: getattr(imaging, name) for name in imaging.__all__}
                | {"make_thumbnails": self._thumbnails}
            ),
            "thumbnailer.manifest": SimpleNamespace(
                manifest=manifest, CONTENT_TYPE="application/json"
            ),
            "thumbnailer.cdn": SimpleNamespace(invalidate=self._invalidate),
            "thumbnailer.telemetry": SimpleNamespace(Telemetry=lambda _: Telemetry(self)),
        }
        self.handler = self.module("thumbnailer.handler")

    def module(self, name: str) -> Any:
        """A module of lambda/, by its full name."""
        if name not in self._modules:
            path = _path(name)
            source = path.read_text()
            if name in self._rewriters:
                source = self._rewriters[name](source)
            module = ModuleType(name)
            vars(module).update(
                __file__=str(path), __builtins__={**vars(builtins), "__import__": self._import}
            )
            self._modules[name] = module
            exec(_compiled(source, str(path)), vars(module))  # noqa: S102 - the code under test
        return self._modules[name]

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: tuple[str, ...] = (),
        level: int = 0,
    ) -> Any:
        if name in self._stand_ins:
            return self._stand_ins[name]
        if name not in MODULES:
            return builtins.__import__(name, globals, locals, fromlist, level)
        module = self.module(name)
        for each in fromlist:  # `from package import module`
            inner = f"{name}.{each}"
            if inner in self._stand_ins or inner in MODULES:
                setattr(module, each, self._import(inner, fromlist=("*",)))
        return module

    # The stand-ins live as long as the code. They reach the network of the current seed through it.
    def send(self, *args: Any) -> Any:
        """See Network."""
        return self.network.send(*args)

    def wait(self, seconds: float) -> None:
        """See Network."""
        self.network.wait(seconds)

    def now(self) -> float:
        """See Network."""
        return self.network.now()

    def _invalidate(self, _: str, keys: Sequence[str], __: str, ___: float) -> None:
        """A stand-in for the requests to CloudFront, in no time and without a fault."""
        self.invalidated(keys)

    def _wait_for(self, futures: Sequence["InlineFuture[Any]"]) -> None:
        """Run concurrent tasks in the seed's order, all of them unless the environment crashes."""
        for number in self.order(len(futures)):
            futures[number].run()

    def _thumbnails(
        self,
        data: bytes,
        specs: Sequence[ThumbnailSpec],
        memory_mb: int,
        _seconds: float,
        focus: Point | None,
    ) -> SimpleNamespace:
        """A stand-in for make_thumbnails in no time; its bytes depend on the same values."""
        assert memory_mb
        if data.startswith(CORRUPT):
            raise self.module("thumbnailer.errors").CorruptImage("simulated")
        made = [
            SimpleNamespace(spec=spec, size=(spec.size.width, 1), data=picture(data, spec, focus))
            for spec in specs
        ]
        return SimpleNamespace(format="JPEG", size=(512, 512), thumbnails=tuple(made), notes=())


MODULES: Final = {
    ".".join(path.relative_to(LAMBDA).with_suffix("").parts).removesuffix(".__init__")
    for path in LAMBDA.glob("thumbnailer/**/*.py")
}
"""Full names of the modules and packages of lambda/."""


def _path(name: str) -> Path:
    """The source file of one of MODULES."""
    path = LAMBDA.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@lru_cache(maxsize=256)
def _compiled(source: str, path: str) -> CodeType:
    return compile(source, path, "exec")


@lru_cache(maxsize=256)
def picture(data: bytes, spec: ThumbnailSpec, focus: Point | None) -> bytes:
    """A stand-in for a picture, which the real `Encoder.mark` of its format accepts."""
    shaping = repr((spec, focus if spec.size.crops else None)).encode()
    pixels = sha256(b"%b %b" % (shaping, data)).digest()
    start, end = AROUND[spec.format]
    return start + pixels + end


def manifest(
    settings: Any,
    source: Any,
    source_bytes: int,
    made: Any,
    stored: Mapping[ThumbnailSpec, tuple[str, int]],
) -> bytes:
    """A stand-in for a manifest, which depends on the same values as the real one."""
    version = settings.picture_version(source.etag, source.focus)
    return repr((source.to_metadata(), version, source_bytes, made.size, stored)).encode()


class InlineExecutor:
    """A stand-in for ThreadPoolExecutor without threads: the simulation has its own."""

    def submit[T](self, work: Callable[..., T], *arguments: Any) -> "InlineFuture[T]":
        """Return a future whose work runs when it is waited for."""
        return InlineFuture(lambda: work(*arguments))

    def shutdown(self, *, wait: bool) -> None:
        """Do nothing: no work is under way."""


class InlineFuture[T]:
    """Work that runs when it is waited for, or when its result is needed."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._result: T | Exception | None = None

    def run(self) -> None:
        """Do the work; `result` raises its error."""
        try:
            self._result = self._work()
        except Exception as error:  # noqa: BLE001 - raised by `result`
            self._result = error

    def result(self, timeout: float | None = None) -> T:
        """The result of the work; `timeout` is in seconds. Raises TimeoutError or its error."""
        if timeout is not None and timeout <= 0:
            raise TimeoutError
        if self._result is None:
            self.run()
        if isinstance(self._result, Exception):
            raise self._result
        return self._result  # type: ignore[return-value]


class Telemetry:
    """A stand-in that passes what the real one logs to `Code.log`."""

    def __init__(self, code: Code) -> None:
        self._code = code

    def __getattr__(self, action: str) -> Callable[..., None]:
        return lambda *args, **more: self._code.log(action, (*args, *more.values()))
