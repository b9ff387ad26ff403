"""Invokes the built function on this machine: `make local`, or scripts/invoke_local.sh.

The function runs in AWS's runtime client for Python (local/runtime_emulator.py) against the local
stack.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

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
from image_pipeline.local import invocation
from image_pipeline.local.docker import check_docker, invoke_in_docker
from image_pipeline.local.function_log import Metric, read_log
from image_pipeline.local.runtime_emulator import FunctionError, Invocation, RuntimeEmulator
from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import free_port
from image_pipeline.stack.aws import aws_errors_explained
from image_pipeline.stack.deployed import Stack
from thumbnailer.events import parse

app = new_app()


@app.command()
def invoke(
    event_file: Annotated[
        Path,
        typer.Argument(metavar="EVENT_FILE", help="Any event that the function accepts, as JSON."),
    ],
    *,
    docker: Annotated[
        bool, typer.Option("--docker", help="Use `sam local invoke`, which needs Docker.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Invoke the built function with an event, and show its result, log, metrics and timings.

    The command uses the local stack that is running, or starts one for the invocation. If an image
    that the event names does not exist, a drawn picture is uploaded first. Up-to-date thumbnails
    are deleted, so that the invocation makes them. The exit code is 1 if the function fails.

    **Examples**

    `scripts/invoke_local.sh tests/sample_event.json`

    `scripts/invoke_local.sh event.json --json | jq .metrics`

    `scripts/invoke_local.sh event.json --docker`
    """
    if docker and as_json:
        raise CommandError("--docker and --json cannot be combined: leave out one of them.")
    event = invocation.read_event(event_file)
    if docker:
        check_docker()
    local = LocalStack()
    with stopped_by_signals(), running(local, free_port()) as stack, aws_errors_explained():
        uploads = parse(event).uploads
        for bucket in sorted({upload.bucket for upload in uploads} - {stack.input_bucket}):
            note(f"Using the local bucket {stack.input_bucket} in place of the event's {bucket}")
        event = invocation.redirected(event, stack.input_bucket)
        keys = (upload.key for upload in uploads)
        invocation.prepare(stack, keys, local.directory / "samples", note)
        artefact = invocation.built(local, note)
        configuration = stack.aws.functions.get_function_configuration(
            FunctionName=stack.function_name
        )
        environment = invocation.environment(stack, configuration)
        if docker:
            raise typer.Exit(
                invoke_in_docker(artefact, configuration, environment, stack.aws.environment, event)
            )
        with RuntimeEmulator(
            artefact,
            environment,
            handler=configuration["Handler"],
            memory_mb=configuration["MemorySize"],
            timeout=configuration["Timeout"],
        ) as emulator:
            outcome = emulator.invoke(event)
    log, metrics = read_log(outcome.log)
    if as_json:
        print_json(to_json(stack, outcome, log, metrics))
    else:
        show(outcome, log, metrics, configuration["MemorySize"])
    if outcome.error:
        raise typer.Exit(1)


def to_json(
    stack: Stack, outcome: Invocation, log: Sequence[Any], metrics: Iterable[Metric]
) -> dict[str, Any]:
    """What --json prints; times in ms."""
    return {
        "stack": stack.name,
        "function": stack.function_name,
        "result": outcome.result,
        "error": asdict(outcome.error) if outcome.error else None,
        "log": log,
        "metrics": [asdict(metric) for metric in metrics],
        "timings": {
            "init_ms": outcome.init_ms,
            "duration_ms": outcome.duration_ms,
            "billed_ms": outcome.billed_ms,
            "max_memory_mb": outcome.max_memory_mb,
        },
    }


def show(
    outcome: Invocation, log: Sequence[Any], metrics: Sequence[Metric], memory_mb: int
) -> None:
    """Print the result or the error, the log, the metrics and the timings, each in its section."""
    if outcome.error:
        show_error(outcome.error)
    else:
        heading("Result", "green")
        out.print_json(json.dumps(outcome.result), ensure_ascii=False)
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
    init, memory = outcome.init_ms, outcome.max_memory_mb
    for name, value in (
        ("init", "none" if init is None else f"{init:,.0f} ms"),
        ("duration", f"{outcome.duration_ms:,.0f} ms"),
        ("billed", f"{outcome.billed_ms:,} ms"),
        ("max memory", f"{'unknown' if memory is None else memory} of {memory_mb:,} MB"),
    ):
        table.add_row(f" {name}", value)
    out.print(table)


def show_error(error: FunctionError) -> None:
    """Print the error that the caller of the function receives."""
    heading("Error", "red")
    out.print(f"[red]{escape(error.type)}[/]: {escape(error.message)}", soft_wrap=True)
    for line in error.stack:
        out.print(line.rstrip(), style="dim", markup=False, soft_wrap=True)


def heading(title: str, colour: str = "cyan") -> None:
    """Print the heading of a section."""
    out.print()
    out.rule(f"[bold {colour}]{title}[/]", align="left", style=colour)


def note(text: str) -> None:
    """Report on standard error what is done besides the outcome."""
    err.print(escape(text), style="dim", soft_wrap=True)


if __name__ == "__main__":
    run_app(app)
