"""One invocation of the built function on this machine, and all that it tells.

`scripts/invoke_local.sh` and `make local` are this module. The function runs in the real runtime
client (`runtime_emulator`), with the memory, the time-out and the variables of the deployed one,
and works on the buckets and the queue of the local stack.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.highlighter import JSONHighlighter
from rich.markup import escape
from rich.table import Table

from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import err, out, print_json
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.cli.targets import running
from image_pipeline.errors import CommandError
from image_pipeline.files import File
from image_pipeline.local import samples
from image_pipeline.local.runtime_emulator import (
    FunctionError,
    Invocation,
    RuntimeEmulator,
    free_ports,
)
from image_pipeline.local.stack import CREDENTIALS, REPOSITORY, LocalStack, sam_environment
from image_pipeline.stack import uploads
from image_pipeline.stack.aws import aws_errors_explained
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.uploads import State
from thumbnailer.build_check import STAMP
from thumbnailer.errors import InvalidEvent
from thumbnailer.events import parse

if TYPE_CHECKING:
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef

SAMPLE_SIZE: Final = (1500, 1000)
"""Width and height in pixels of the picture that stands in for a missing one."""

SETTLE_SECONDS: Final = 60.0
"""For the deployed function to finish with what is seeded: its first start may be among that."""

DOCKER_SECONDS: Final = 10.0
"""For a Docker daemon to answer."""

SOURCE: Final = REPOSITORY / "lambda"

app = new_app()


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that CloudWatch would make of a log line; one value for each time it was added."""

    namespace: str
    dimensions: dict[str, str]
    name: str
    unit: str
    values: list[float]


@app.command()
def invoke(
    event_file: Annotated[
        Path,
        typer.Argument(metavar="EVENT_FILE", help="Any event that the function takes, as JSON."),
    ],
    *,
    docker: Annotated[
        bool, typer.Option("--docker", help="Use `sam local invoke`, which needs Docker.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Invoke the built function with an event, and show its result, log, metrics and timings.

    It works on the local stack that is up, else on one that is started for it. What the event names
    and is not there is uploaded first: a drawn picture. Thumbnails that are current are removed, so
    that the invocation makes them. The exit code is 1 if the function fails.

    **Examples**

    `scripts/invoke_local.sh tests/sample_event.json`

    `scripts/invoke_local.sh event.json --json | jq .metrics`

    `scripts/invoke_local.sh event.json --docker`
    """
    if docker and as_json:
        raise CommandError("--docker and --json exclude each other: leave one of them out.")
    event = read_event(event_file)
    if docker:
        check_docker()
    local = LocalStack()
    with stopped_by_signals(), running(local, free_ports(1)[0]) as stack, aws_errors_explained():
        uploads = parse(event).uploads
        for bucket in sorted({upload.bucket for upload in uploads} - {stack.input_bucket}):
            note(f"Bucket {bucket} of the event is taken as {stack.input_bucket}, the local one")
        event = redirected(event, stack.input_bucket)
        prepare(stack, (upload.key for upload in uploads), local.directory / "samples")
        artefact = built(local)
        configuration = stack.aws.functions.get_function_configuration(
            FunctionName=stack.function_name
        )
        if docker:
            raise typer.Exit(invoke_in_docker(stack, artefact, configuration, event))
        with RuntimeEmulator(
            artefact,
            environment(stack, configuration),
            handler=configuration["Handler"],
            memory_mb=configuration["MemorySize"],
            timeout=configuration["Timeout"],
        ) as emulator:
            invocation = emulator.invoke(event)
    log, metrics = read_log(invocation.log)
    if as_json:
        print_json(to_json(stack, invocation, log, metrics))
    else:
        show(invocation, log, metrics, configuration["MemorySize"])
    if invocation.error:
        raise typer.Exit(1)


# --- the event ----------------------------------------------------------------------------------
def read_event(path: Path) -> Any:
    """Decode an event. Raises CommandError unless it is one that the function takes."""
    try:
        event = json.loads(path.read_text(encoding="utf-8"))
        parse(event)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    except InvalidEvent as error:
        raise CommandError(f"{path} is no event that the function takes. {error}.") from error
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} is not JSON: {error}.") from error
    return event


def redirected(event: Any, bucket: str) -> Any:
    """The event with `bucket` wherever it names one, in messages of SQS and SNS as well."""

    def part(name: str, value: Any) -> Any:
        match name, value:
            case "bucket", str():
                return bucket
            case "bucket", {"name": _}:
                arn = {"arn": f"arn:aws:s3:::{bucket}"} if "arn" in value else {}
                return {**value, "name": bucket, **arn}
            case "body" | "Message", str():
                try:
                    return json.dumps(redirected(json.loads(value), bucket))
                except ValueError:  # the function will say what is wrong with it
                    return value
        return redirected(value, bucket)

    match event:
        case dict():
            return {name: part(name, value) for name, value in event.items()}
        case list():
            return [redirected(value, bucket) for value in event]
    return event


# --- what the function finds --------------------------------------------------------------------
def prepare(stack: Stack, keys: Iterable[str], directory: Path) -> None:
    """Upload a picture for every key that is missing, and remove the thumbnails that are current.

    S3 tells the deployed function of an upload too: only once that one has finished does the result
    of the invocation say what the invocation did. `directory` takes the drawn picture.
    """
    prefix = stack.settings.input_prefix
    ours = [key for key in dict.fromkeys(keys) if key.startswith(prefix) and not key.endswith("/")]
    found = {key: outcome for key in ours if (outcome := uploads.describe(stack, key))}
    missing = [key for key in ours if key not in found]
    outcomes = list(uploads.wait(stack, list(found.values()), 0))
    if missing:
        picture = draw(directory)
        size = "{} × {}".format(*SAMPLE_SIZE)
        for key in missing:
            note(f"Uploading {key}, which is not there yet: a drawn JPEG of {size} pixels")
        uploaded = list(uploads.upload(stack, [File(picture, key) for key in missing]))
        outcomes += uploads.wait(stack, uploaded, SETTLE_SECONDS)
        for outcome in outcomes[len(found) :]:
            if outcome.state is State.UNKNOWN:
                note(f"The deployed function has not finished with {outcome.key}: it may interfere")
    current = [thumbnail.key for outcome in outcomes for thumbnail in outcome.thumbnails]
    for key in current:
        stack.aws.s3.delete_object(Bucket=stack.settings.output_bucket, Key=key)
    if current:
        note(f"Removed {', '.join(current)}: the invocation makes them again")


def draw(directory: Path) -> Path:
    """Write the picture that stands in for what is missing."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "landscape.jpg"
    samples.landscape(SAMPLE_SIZE).save(path, quality=90)
    return path


def built(local: LocalStack) -> Path:
    """The function as built for the local stack; built again if its source has changed since."""
    stamp = local.artefact / STAMP
    changed = max(path.stat().st_mtime for path in SOURCE.iterdir() if path.is_file())
    if not stamp.exists() or stamp.stat().st_mtime < changed:
        note("Building the function: lambda/ has changed since it was built and deployed")
        local.build()
    return local.artefact


def environment(
    stack: Stack, configuration: "FunctionConfigurationResponseTypeDef"
) -> dict[str, str]:
    """The deployed function's variables, and the way to the local AWS."""
    return {
        **configuration["Environment"]["Variables"],
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": str(stack.aws.endpoint_url),
        "AWS_LAMBDA_FUNCTION_NAME": stack.function_name,
    }


# --- Docker -------------------------------------------------------------------------------------
def check_docker() -> None:
    """Raise CommandError unless a Docker daemon answers."""
    docker = shutil.which("docker")
    try:
        answer = docker and subprocess.run(  # noqa: S603 - the user's own
            [docker, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            timeout=DOCKER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        answer = None
    if not answer or answer.returncode:
        raise CommandError(
            "`sam local invoke` needs a Docker daemon, and none answers. Start one, or leave "
            "--docker out: the function then runs in the same runtime client without Docker."
        )


def invoke_in_docker(
    stack: Stack,
    artefact: Path,
    configuration: "FunctionConfigurationResponseTypeDef",
    event: Any,
) -> int:
    """Let `sam local invoke` run the function in AWS's image of the runtime; its exit code.

    sam prints the result and the log as they are. It passes on only variables that the template
    has, so it gets a template of its own, with this function alone.
    """
    function = {
        "Type": "AWS::Serverless::Function",
        "Properties": {
            "CodeUri": str(artefact),
            "Handler": configuration["Handler"],
            "Runtime": configuration["Runtime"],
            "Architectures": configuration["Architectures"],
            "MemorySize": configuration["MemorySize"],
            "Timeout": configuration["Timeout"],
            "Environment": {"Variables": environment(stack, configuration)},
        },
    }
    template = {
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": {"ThumbnailFunction": function},
    }
    with tempfile.TemporaryDirectory(prefix="invoke-local-") as directory:
        for name, content in (("template", template), ("event", event)):
            Path(directory, f"{name}.json").write_text(json.dumps(content))
        done = subprocess.run(  # noqa: S603 - our own tool
            [
                *("sam", "local", "invoke", "ThumbnailFunction"),
                *("--template-file", "template.json", "--event", "event.json"),
                *("--docker-network", "host"),  # the local AWS listens on loopback only
            ],
            cwd=directory,
            env={**sam_environment(), **CREDENTIALS},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    print(done.stdout.strip())
    try:
        failed = "errorType" in json.loads(done.stdout)
    except ValueError:  # sam has said on standard error what went wrong
        failed = True
    return 1 if failed else done.returncode


# --- what it tells ------------------------------------------------------------------------------
def read_log(lines: Iterable[str]) -> tuple[list[Any], list[Metric]]:
    """Tell the log (decoded where a line is a JSON object, else its text) from the metrics."""
    log: list[Any] = []
    metrics: list[Metric] = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        match record:
            case {"_aws": {"CloudWatchMetrics": [*directives]}}:
                metrics += decoded(record, directives)
            case dict():
                log.append(record)
            case _:
                log.append(line)
    return log, metrics


def decoded(record: dict[str, Any], directives: Iterable[dict[str, Any]]) -> Iterator[Metric]:
    """The metrics that `directives` find in a record; a value that is not there makes none.

    The form is CloudWatch's embedded metric format
    (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
    """
    for directive in directives:
        dimensions = {
            name: record[name] for names in directive.get("Dimensions", []) for name in names
        }
        for metric in directive["Metrics"]:
            name = metric["Name"]
            if name in record:
                value = record[name]
                values = value if isinstance(value, list) else [value]
                unit = metric.get("Unit", "None")
                yield Metric(directive["Namespace"], dimensions, name, unit, values)


def to_json(
    stack: Stack, invocation: Invocation, log: Sequence[Any], metrics: Iterable[Metric]
) -> dict[str, Any]:
    """As scripts get it; times in ms."""
    return {
        "stack": stack.name,
        "function": stack.function_name,
        "result": invocation.result,
        "error": asdict(invocation.error) if invocation.error else None,
        "log": log,
        "metrics": [asdict(metric) for metric in metrics],
        "timings": {
            "init_ms": invocation.init_ms,
            "duration_ms": invocation.duration_ms,
            "billed_ms": invocation.billed_ms,
            "max_memory_mb": invocation.max_memory_mb,
        },
    }


def show(
    invocation: Invocation, log: Sequence[Any], metrics: Sequence[Metric], memory_mb: int
) -> None:
    """Print one section for each kind of thing that an invocation tells."""
    if invocation.error:
        show_error(invocation.error)
    else:
        heading("Result", "green")
        out.print_json(json.dumps(invocation.result), ensure_ascii=False)
    heading("Log")
    highlight = JSONHighlighter()
    for line in log:
        text = line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)
        out.print(highlight(text), soft_wrap=True)
    heading("Metrics")
    table = Table("metric", "unit", "value", box=None)
    table.columns[2].justify = "right"
    for metric in metrics:
        table.add_row(
            metric.name,
            metric.unit,
            ", ".join(f"{round(value, 1):,.12g}" for value in metric.values),
        )
    out.print(table)
    heading("Timings")
    table = Table.grid(padding=(0, 2))
    init, memory = invocation.init_ms, invocation.max_memory_mb
    for name, value in (
        ("init", "none" if init is None else f"{init:,.0f} ms"),
        ("duration", f"{invocation.duration_ms:,.0f} ms"),
        ("billed", f"{invocation.billed_ms:,} ms"),
        ("max memory", f"{'unknown' if memory is None else memory} of {memory_mb:,} MB"),
    ):
        table.add_row(f" {name}", value)
    out.print(table)


def show_error(error: FunctionError) -> None:
    """Print what the caller of a failed function is told."""
    heading("Error", "red")
    out.print(f"[red]{escape(error.type)}[/]: {escape(error.message)}", soft_wrap=True)
    for line in error.stack:
        out.print(line.rstrip(), style="dim", markup=False, soft_wrap=True)


def heading(title: str, colour: str = "cyan") -> None:
    """Set a section apart from the one before."""
    out.print()
    out.rule(f"[bold {colour}]{title}[/]", align="left", style=colour)


def note(text: str) -> None:
    """Say on standard error what is done beside the invocation."""
    err.print(escape(text), style="dim", soft_wrap=True)


if __name__ == "__main__":
    run_app(app)
