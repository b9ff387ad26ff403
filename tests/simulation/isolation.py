"""The modules of lambda/, imported afresh over stand-ins for what leaves the process.

The source is the real one, or the real one with a mutation; the modules that the rest of the
process has imported stay as they are.
"""

import builtins
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any, Final

from simulation.clients import Boto3, Obstore
from simulation.wire import Network

LAMBDA: Final = Path(__file__).parents[2] / "lambda"

BUCKETS: Final = ("simulated-input", "simulated-output")
INPUT, OUTPUT = BUCKETS
QUEUE: Final = "https://sqs.example/1/letters"
ENVIRONMENT: Final = {"OUTPUT_BUCKET": OUTPUT, "DLQ_URL": QUEUE}

CORRUPT: Final = b"corrupt"
"""How bytes begin that cannot be made into thumbnails."""


class Code:
    """The function's code; `network` and `tell` are what it talks to, another one for each seed.

    `order` says in which order so many requests go that are made side by side, by number.
    `rewritten` maps a module's name to what becomes of its source.
    """

    network: Network
    tell: Callable[[str, tuple[Any, ...]], None]
    order: Callable[[int], list[int]]

    def __init__(self, rewritten: Mapping[str, Callable[[str], str]] | None = None) -> None:
        self._rewritten = rewritten or {}
        self._modules: dict[str, Any] = {}
        obstore = Obstore(self)
        self._stand_ins: dict[str, Any] = {
            "os": SimpleNamespace(environ=dict(ENVIRONMENT)),
            "time": SimpleNamespace(monotonic=self.now, perf_counter=self.now),
            "obstore": obstore,
            "obstore.store": obstore,
            "boto3": Boto3(self),
            "concurrent.futures": SimpleNamespace(
                Future=Later, ThreadPoolExecutor=lambda _: Inline(), wait=self._wait_for
            ),
            "thumbnailer.imaging.thumbnails": SimpleNamespace(
                Made=SimpleNamespace, make_thumbnails=self._thumbnails
            ),
            "thumbnailer.manifest": SimpleNamespace(
                manifest=manifest, CONTENT_TYPE="application/json"
            ),
            "thumbnailer.telemetry": SimpleNamespace(Telemetry=lambda _: Telemetry(self)),
        }
        self.handler = self.module("thumbnailer.handler")

    def module(self, name: str) -> Any:
        """One of the modules of lambda/."""
        if name not in self._modules:
            path = _path(name)
            source = path.read_text()
            if name in self._rewritten:
                source = self._rewritten[name](source)
            module = ModuleType(name)
            vars(module).update(
                __file__=str(path), __builtins__={**vars(builtins), "__import__": self._import}
            )
            self._modules[name] = module
            exec(_compiled(source, str(path)), vars(module))  # noqa: S102 - our own code
        return self._modules[name]

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - as it is called
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

    # The stand-ins live as long as the code, and reach a seed's network through it.
    def send(self, *args: Any) -> Any:
        """See Network."""
        return self.network.send(*args)

    def wait(self, seconds: float) -> None:
        """See Network."""
        self.network.wait(seconds)

    def now(self) -> float:
        """See Network."""
        return self.network.now()

    def _wait_for(self, tasks: Sequence["Later[Any]"]) -> None:
        """Do what is to be done side by side: all of it, until the environment is gone."""
        for number in self.order(len(tasks)):
            tasks[number].run()

    def _thumbnails(
        self, data: bytes, widths: tuple[int, ...], quality: int, memory_mb: int, *, animated: bool
    ) -> SimpleNamespace:
        """What image_utils makes, in none of its time: bytes that depend on the same."""
        assert memory_mb
        if data.startswith(CORRUPT):
            raise self.module("thumbnailer.errors").CorruptImage("simulated")
        made = [
            SimpleNamespace(width=width, size=(width, width), data=picture(data, width, quality))
            for width in widths
        ]
        assert animated
        return SimpleNamespace(format="JPEG", size=(512, 512), thumbnails=tuple(made), notes=())


MODULES: Final = {
    ".".join(path.relative_to(LAMBDA).with_suffix("").parts).removesuffix(".__init__")
    for path in LAMBDA.glob("thumbnailer/**/*.py")
}


def _path(name: str) -> Path:
    """The file of one of MODULES."""
    path = LAMBDA.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@lru_cache(maxsize=256)
def _compiled(source: str, path: str) -> CodeType:
    return compile(source, path, "exec")


@lru_cache(maxsize=256)
def picture(data: bytes, width: int, quality: int) -> bytes:
    """A stand-in for a WebP, of the extended format, so that the real `stamped` takes it."""
    chunk = b"VP8X" + (32).to_bytes(4, "little")
    return b"RIFF\0\0\0\0WEBP" + chunk + sha256(b"%d %d %s" % (width, quality, data)).digest()


def manifest(
    source: Any, source_bytes: int, made: Any, stored: Mapping[int, tuple[str, int]]
) -> bytes:
    """A stand-in for a manifest, which tells of what the real one tells."""
    return repr((source.to_metadata(), source_bytes, made.size, stored)).encode()


class Inline:
    """An executor without threads: the simulation has its own."""

    def submit[T](self, work: Callable[..., T], *arguments: Any) -> "Later[T]":
        """Do it when it is waited for."""
        return Later(lambda: work(*arguments))

    def shutdown(self, *, wait: bool) -> None:
        """Nothing is under way."""


class Later[T]:
    """What is done when it is waited for, or its result is asked for."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._result: T | Exception | None = None

    def run(self) -> None:
        """Do it; an error is raised with the result."""
        try:
            self._result = self._work()
        except Exception as error:  # noqa: BLE001 - raised in its turn
            self._result = error

    def result(self, timeout: float | None = None) -> T:
        """What became of it; `timeout` is what is left in seconds before it has begun."""
        if timeout is not None and timeout <= 0:
            raise TimeoutError
        if self._result is None:
            self.run()
        if isinstance(self._result, Exception):
            raise self._result
        return self._result  # type: ignore[return-value]


class Telemetry:
    """Tells the trace what the real one logs."""

    def __init__(self, code: Code) -> None:
        self._code = code

    def __getattr__(self, action: str) -> Callable[..., None]:
        return lambda *args, **more: self._code.tell(action, (*args, *more.values()))
