"""Starts ministack with the AWS behaviour restored that this pipeline depends on.

It runs in ministack's own environment (`.tools/ministack/bin/python -P ministack_patches.py`), so
it imports nothing of this project. Each patch is one function whose docstring names what AWS does;
tests/local_stack/test_ministack_patches.py shows for each that plain ministack still departs.
Left as it is: events are retried after 1 s and 2 s where AWS waits 1 and 2 minutes.
"""

# ruff: noqa: SLF001 - ministack offers no other place to hook in

import argparse
import array
import contextvars
import fcntl
import json
import os
import queue
import re
import select
import shlex
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from ministack.core import iam_evaluator, lambda_runtime  # type: ignore[import-not-found]
from ministack.services import (  # type: ignore[import-not-found]
    eventbridge,
    lambda_svc,
    s3,
    sqs,
    stepfunctions,
)
from ministack.services.cloudformation import provisioners  # type: ignore[import-not-found]

THROTTLED_RETRY_SECONDS = 0.1
LOG_SECONDS = 2.0
"""Most that an answer waits for its log: a thread left behind may write for ever."""


# --- how a Python function runs -----------------------------------------------------------------
class PythonEnvironment(lambda_runtime.ProvidedWorker):  # type: ignore[misc]
    """An execution environment that runs AWS's own runtime client for Python, awslambdaric."""

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self._reading = threading.Lock()

    def _spawn(self, init_timeout: float | None = None) -> None:
        code = Path(lambda_svc._provided_runtime_code_dir(self.code_zip))
        bootstrap = code / "bootstrap"
        if not bootstrap.exists():
            # Renamed into place: another environment of the same code may be about to run it.
            draft = code / f".bootstrap-{threading.get_ident()}"
            draft.write_text(
                f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m awslambdaric "$_HANDLER"\n'
            )
            draft.chmod(0o755)
            draft.rename(bootstrap)
        super()._spawn(init_timeout)

    def invoke(self, event: Any, request_id: str, **about: Any) -> Any:
        """Run one invocation; a failed init answers with its error, as AWS does, and is logged."""
        try:
            return super().invoke(event, request_id, **about)
        except RuntimeError:
            if not isinstance(self._init_error, dict):
                raise
            return {
                "status": "error",
                "error": self._init_error.get("errorMessage"),
                "error_payload": self._init_error,
                "cold_start": True,
                "log": self._drain_stderr(),
            }

    def _pump_output(self, stream: IO[bytes], log_queue: queue.Queue[str]) -> None:
        """Read the function's output into `log_queue`, to the end of the process.

        Under the lock there is no output that is neither in the pipe nor in the queue.
        """
        rest, chunk = b"", b"begin"
        while chunk:
            select.select([stream], [], [])
            with self._reading:
                chunk = os.read(stream.fileno(), 1 << 16)
                *lines, rest = (rest + (chunk or b"\n")).split(b"\n")
                for line in filter(None, lines):
                    if log_queue.full():
                        log_queue.get_nowait()  # the oldest goes; the pipe must not fill up
                    log_queue.put_nowait(line.decode(errors="replace"))
        with self._reading:
            stream.close()

    def _drain_stderr_bounded(self, *_: float, **__: float) -> str:
        """Take all that was written up to now: an invocation's log lines, and no other's.

        The function wrote them before it answered, but the reading thread may be late.
        """
        process = self._proc
        deadline = time.monotonic() + LOG_SECONDS
        while process and self._unread(process.stdout) and time.monotonic() < deadline:
            time.sleep(0.001)
        return str(self._drain_stderr())

    def _unread(self, stream: IO[bytes]) -> bool:
        with self._reading:
            if stream.closed:
                return False
            count = array.array("i", [0])
            fcntl.ioctl(stream, termios.FIONREAD, count)
            return count[0] > 0


def run_python_in_the_lambda_runtime_client() -> None:
    """Python functions run in awslambdaric: real context, typed errors, failed inits, whole logs.

    https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html. ministack runs them in a
    loop of its own, where every error is a `Runtime.HandlerError`.
    """
    worker_class_for = lambda_runtime._worker_class_for
    execute_warm = lambda_svc._execute_function_warm

    def is_python(config: dict[str, Any]) -> bool:
        return str(config.get("Runtime", "")).startswith("python")

    def worker_class(config: dict[str, Any]) -> Any:
        return PythonEnvironment if is_python(config) else worker_class_for(config)

    def execute(func: dict[str, Any], event: Any, request_id: str) -> Any:
        runs = is_python(func.get("config") or func)
        run = lambda_svc._execute_function_provided_warm if runs else execute_warm
        return run(func, event, request_id)

    lambda_runtime._worker_class_for = worker_class
    lambda_svc._execute_function_warm = execute


def give_functions_the_environment_of_lambda() -> None:
    """A function sees the variables that Lambda defines and its own, and no others.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html. ministack leaves some
    out and hands on its own environment. /var/task being read-only is acted by writing no .pyc.
    """
    build = lambda_svc._provided_worker_env

    def environment(config: dict[str, Any], code_dir: str, port: int) -> dict[str, str]:
        built: dict[str, str] = build(config, code_dir, port)
        known = (
            lambda_runtime._RESERVED_RUNTIME_ENV_VARS
            | {"_HANDLER", "AWS_LAMBDA_RUNTIME_API", "AWS_ENDPOINT_URL"}
            | lambda_svc._runtime_env_vars(config).keys()  # the function's own
        )
        logging = config.get("LoggingConfig") or {}
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{config.get('Runtime', '')}",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_FORMAT": logging.get("LogFormat", "Text"),
            "AWS_LAMBDA_LOG_GROUP_NAME": logging.get("LogGroup")
            or f"/aws/lambda/{config['FunctionName']}",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "PYTHONDONTWRITEBYTECODE": "1",
            **{name: value for name, value in built.items() if name in known},
        }

    lambda_svc._provided_worker_env = environment


# --- asynchronous invocation --------------------------------------------------------------------
@dataclass
class Delivery:
    """An event on its way to a function, with the retries that it takes."""

    request_id: str
    attempts: int = 0
    alias: str | None = None


_delivery: contextvars.ContextVar[Delivery | None] = contextvars.ContextVar(
    "delivery", default=None
)


def honour_what_an_alias_is_configured_with() -> None:
    """Events to an alias are retried, and their failures delivered, as that alias is configured.

    https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html. ministack
    looks at the function's own configuration only, so that OnFailure of an alias gets nothing. It
    does not hand on which alias was meant: here it is the one that points at the version.
    """
    invoke_async = lambda_svc.invoke_async_with_retry

    def invoke(func: dict[str, Any], event: Any) -> None:
        config = func.get("config") or func
        base = lambda_svc._functions.get(config["FunctionName"]) or {}
        configs = base.get("event_invoke_configs") or {}
        for alias, about in (base.get("aliases") or {}).items():
            if alias in configs and about["FunctionVersion"] == config.get("Version"):
                func = {**func, "config": config, "event_invoke_config": configs[alias]}
                if delivery := _delivery.get():
                    delivery.alias = alias
        invoke_async(func, event)

    lambda_svc.invoke_async_with_retry = invoke


def keep_the_request_id_through_retries() -> None:
    """The retries of an event carry the request id of its first attempt.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-retries.html: what was told by the id
    (a dead letter, a log line) belongs to the event, not to one attempt.
    """
    invoke_async = lambda_svc.invoke_async_with_retry
    dispatch = lambda_svc._execute_function_dispatch

    def invoke(func: dict[str, Any], event: Any) -> None:
        token = _delivery.set(Delivery(lambda_svc.new_uuid()))
        try:
            invoke_async(func, event)  # its thread runs in a copy of this context
        finally:
            _delivery.reset(token)

    def dispatch_attempt(
        func: Any, config: Any, event: Any, request_id: str, started: float
    ) -> Any:
        if delivery := _delivery.get():
            delivery.attempts += 1
            request_id = delivery.request_id
        return dispatch(func, config, event, request_id, started)

    lambda_svc.invoke_async_with_retry = invoke
    lambda_svc._execute_function_dispatch = dispatch_attempt


def let_throttled_events_wait() -> None:
    """An event that finds no free concurrency waits for it, up to six hours, and loses no retry.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html. ministack
    counts a throttled attempt as a failed one, so a burst of uploads would end as failures.
    """
    execute = lambda_svc._execute_function

    def execute_when_free(func: dict[str, Any], event: Any) -> Any:
        result = execute(func, event)
        while _delivery.get() and isinstance(result, dict) and result.get("throttle"):
            time.sleep(THROTTLED_RETRY_SECONDS)
            result = execute(func, event)
        return result

    lambda_svc._execute_function = execute_when_free


def send_whole_on_failure_records() -> None:
    """An OnFailure record tells its version, time, request id, attempts and executed version.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html. ministack
    leaves these out, and says three attempts whatever there were.
    """
    route = lambda_svc._route_async_failure

    def route_failure(target_arn: str, func_name: str, event: Any, result: dict[str, Any]) -> None:
        delivery = _delivery.get()
        queue = sqs._queue_by_arn(target_arn) if ":sqs:" in target_arn else None
        if delivery is None or queue is None:
            route(target_arn, func_name, event, result)
            return
        function = lambda_svc._functions[func_name]
        qualifier = delivery.alias or "$LATEST"
        version = (
            function["aliases"][delivery.alias]["FunctionVersion"] if delivery.alias else qualifier
        )
        now = datetime.now(UTC)
        record = {
            "version": "1.0",
            "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "requestContext": {
                "requestId": delivery.request_id,
                "functionArn": f"{function['config']['FunctionArn']}:{qualifier}",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": delivery.attempts,
            },
            "requestPayload": event,
            "responseContext": {
                "statusCode": 200,
                "executedVersion": version,
                "functionError": "Unhandled",
            },
            "responsePayload": result.get("body"),
        }
        sqs._act_send_message({"MessageBody": json.dumps(record)}, queue["url"])

    lambda_svc._route_async_failure = route_failure


def deliver_events_asynchronously() -> None:
    """EventBridge invokes a function asynchronously: with retries, and OnFailure at last.

    https://docs.aws.amazon.com/lambda/latest/dg/with-eventbridge-scheduler.html. ministack calls it
    once and forgets what came of it. What cannot be delivered goes to the target's own queue
    (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html).
    """
    dispatch_to_target = eventbridge._dispatch_to_lambda
    rules = eventbridge._targets

    def dispatch(arn: str, payload: str) -> None:
        function, config, _ = lambda_svc._get_func_record_for_ref(arn)
        if function and config:
            record = lambda_svc._execution_record_for_config(function, config)
            lambda_svc.invoke_async_with_retry(record, json.loads(payload))
            return
        queues = {
            target["DeadLetterConfig"]["Arn"]
            for targets in rules.values()
            for target in targets
            if target["Arn"] == arn and "DeadLetterConfig" in target
        }
        for queue_arn in queues:
            queue = sqs._queue_by_arn(queue_arn)
            sqs._act_send_message({"MessageBody": payload}, queue["url"])
        if not queues:
            dispatch_to_target(arn, payload)

    eventbridge._dispatch_to_lambda = dispatch


# --- CloudWatch ---------------------------------------------------------------------------------
def accept_alarms_of_metric_math() -> None:
    """CloudFormation makes alarms on an expression over several metrics.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-cloudwatch-alarm.html
    ministack refuses them. Here they are made, and never evaluated: on a metric that nobody has.
    """
    about = provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::Alarm"]

    def accepting(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*given: Any) -> Any:
            return make(
                *(
                    (
                        {
                            **{name: value for name, value in each.items() if name != "Metrics"},
                            "Namespace": "MetricMath",
                            "MetricName": "Unknown",
                            "Statistic": "Sum",
                            "Period": 300,
                        }
                        if isinstance(each, dict) and "Metrics" in each
                        else each
                    )
                    for each in given
                )
            )

        return made

    for action in ("create", "update"):
        about[action] = accepting(about[action])


# --- S3 -----------------------------------------------------------------------------------------
def refuse_to_delete_full_buckets() -> None:
    """CloudFormation fails to delete a bucket that holds objects or versions of them.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-s3-bucket.html
    ministack deletes it with all that is in it.
    """
    delete = provisioners._s3_delete
    about = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]

    def delete_bucket(name: str, properties: Any) -> None:
        bucket = s3._buckets.get(name)
        if bucket and (bucket["objects"] or s3._bucket_has_versions(name)):
            raise ValueError(
                "The bucket you tried to delete is not empty (Service: S3, Status Code: 409)"
            )
        delete(name, properties)

    about["delete"] = delete_bucket


# --- Step Functions -----------------------------------------------------------------------------
def call_sqs_in_its_own_words() -> None:
    """`aws-sdk:sqs` tasks take and give what SQS's API does: `Messages`, not `Message`.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html.
    Without it a state machine sees no message and the queue is emptied silently.
    """
    stepfunctions._AWS_SDK_SERVICE_MAP["sqs"] = {"target_prefix": "AmazonSQS", "protocol": "json"}


def name_throttled_invocations() -> None:
    """A throttled task fails with `Lambda.TooManyRequestsException`, by which it is retried.

    https://docs.aws.amazon.com/step-functions/latest/dg/connect-lambda.html. ministack calls it
    `Lambda.Unknown`.
    """
    call = stepfunctions._call_lambda

    def call_function(function: str, event: Any) -> Any:
        try:
            return call(function, event)
        except stepfunctions._ExecutionError as error:
            if error.error == "Lambda.Unknown" and "TooManyRequestsException" in error.cause:
                raise stepfunctions._ExecutionError(
                    "Lambda.TooManyRequestsException", error.cause
                ) from None
            raise

    stepfunctions._call_lambda = call_function


def _top(execution: dict[str, Any]) -> dict[str, Any]:
    """The execution that was started, of one that may be a child of its Distributed Map."""
    run = stepfunctions._map_runs.get(execution.get("mapRunArn"))
    top: dict[str, Any] = stepfunctions._executions[run["executionArn"]] if run else execution
    return top


def stop_whole_executions() -> None:
    """StopExecution ends an execution within Map states too, and the children that it runs.

    https://docs.aws.amazon.com/step-functions/latest/apireference/API_StopExecution.html. In
    ministack they go on to their end. What a task has begun is done, as on AWS.
    """
    execute = stepfunctions._execute_task

    def execute_task(state: Any, data: Any, execution: dict[str, Any], context: Any) -> Any:
        def check() -> None:
            if _top(execution)["status"] == "ABORTED":
                execution["status"] = "ABORTED"
                raise SystemExit  # ends this thread; no Retry or Catch sees it

        check()
        result = execute(state, data, execution, context)
        check()
        return result

    stepfunctions._execute_task = execute_task


_items: dict[str, int] = {}
"""How many items the Distributed Map of an execution has, by the execution's ARN."""


def _batched(items: list[Any], about: dict[str, Any]) -> list[dict[str, Any]]:
    """What ItemBatcher makes of items."""
    batches: list[list[Any]] = []
    for item in items:
        grown = [*batches[-1], item] if batches else [item]
        fits = len(json.dumps(grown)) <= about["MaxInputBytesPerBatch"]
        if batches and len(grown) <= about["MaxItemsPerBatch"] and fits:
            batches[-1].append(item)
        else:
            batches.append([item])
    return [{"Items": batch} for batch in batches]


def _children(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The child executions of a Map Run."""
    executions = stepfunctions._executions.values()
    return [each for each in executions if each.get("mapRunArn") == run["mapRunArn"]]


RESULT_FIELDS = ("executionArn", "name", "status", "input", "output", "error", "cause")


def _write_results(run: dict[str, Any], bucket: str, prefix: str) -> dict[str, Any]:
    """What ResultWriter writes, and the output of the Map state that it leads to.

    https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
    """
    folder = f"{prefix}/{run['mapRunArn'].rpartition(':')[2]}"

    def put(name: str, content: Any) -> dict[str, Any]:
        body = json.dumps(content).encode()
        s3._put_object(bucket, f"{folder}/{name}", body, {})
        return {"Key": f"{folder}/{name}", "Size": len(body)}

    files: dict[str, list[Any]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    for status in ("SUCCEEDED", "FAILED"):
        told = [
            {
                field[0].upper() + field[1:]: child[field]
                for field in RESULT_FIELDS
                if child.get(field) is not None
            }
            for child in _children(run)
            if child["status"] == status
        ]
        if told:
            files[status].append(put(f"{status}_0.json", told))
    manifest = {"DestinationBucket": bucket, "MapRunArn": run["mapRunArn"], "ResultFiles": files}
    key = put("manifest.json", manifest)["Key"]
    details = {"Bucket": bucket, "Key": key}
    return {"MapRunArn": run["mapRunArn"], "ResultWriterDetails": details}


def run_distributed_maps_whole() -> None:
    """A Distributed Map in JSONata selects, batches and caps its items, and writes its results.

    https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html. ministack works
    out no JSONata there, and knows neither ItemBatcher nor ResultWriter.
    """
    run_children = stepfunctions._run_distributed_map

    def run_map(state: dict[str, Any], data: Any, *about: Any) -> Any:
        effective, iterator, execution, context = about
        if stepfunctions._state_query_language(state, context) != "JSONata":
            return run_children(state, data, effective, iterator, execution, context)

        def worked_out(field: str, item: Any = None) -> Any:
            known = {**context, "Map": {"Item": {"Value": item}}}
            return stepfunctions._apply_jsonata_template(state.get(field), data, known)

        items = stepfunctions._read_map_items(worked_out("ItemReader"), {}, context)
        if "ItemSelector" in state:
            items = [worked_out("ItemSelector", item) for item in items]
        _items[execution["executionArn"]] = len(items)
        if "ItemBatcher" in state:
            items = _batched(items, worked_out("ItemBatcher"))
        kept = ("Label", "Next", "End", "ToleratedFailurePercentage")
        plain = {name: state[name] for name in kept if name in state}
        plain["MaxConcurrency"] = worked_out("MaxConcurrency")
        try:
            result, following = run_children(plain, data, items, iterator, execution, context)
        finally:
            runs = stepfunctions._map_runs.values()
            *_, run = (each for each in runs if each["executionArn"] == execution["executionArn"])
            if execution["status"] == "ABORTED":
                run["status"] = "ABORTED"
            elif "ResultWriter" in state:
                where = worked_out("ResultWriter")["Arguments"]
                result = _write_results(run, where["Bucket"], where["Prefix"])
        output = stepfunctions._apply_jsonata_output(
            state, data, context, result=result, default=result
        )
        stepfunctions._apply_state_assign(state, data, context, result=result)
        return output, following

    stepfunctions._run_distributed_map = run_map


def count_the_items_of_batches() -> None:
    """DescribeMapRun counts items, not the batches that they run in.

    https://docs.aws.amazon.com/step-functions/latest/apireference/API_MapRunItemCounts.html
    """
    view = stepfunctions._map_run_view

    def map_run_view(run: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = view(run)
        total = _items.get(run["executionArn"])
        if total is not None:
            counts = dict.fromkeys(run["itemCounts"], 0)
            for child in _children(run):
                counts[child["status"].lower()] += len(json.loads(child["input"])["Items"])
            pending = total - sum(counts.values())
            shown["itemCounts"] = counts | {"total": total, "pending": pending}
        return shown

    stepfunctions._map_run_view = map_run_view


# --- policies -----------------------------------------------------------------------------------
def take_loopback_for_tls() -> None:
    """A request counts as made by TLS (`aws:SecureTransport`), as those to AWS's endpoints are.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html. Here
    plain HTTP on loopback stands for it: policies that demand TLS would refuse everything.
    """
    resolve = iam_evaluator._resolve_condition_key

    def resolved(key: str, context: Any) -> Any:
        return "true" if key.lower() == "aws:securetransport" else resolve(key, context)

    iam_evaluator._resolve_condition_key = resolved


def let_wildcards_of_policies_match_newlines() -> None:
    """`*` in a policy matches any characters of a key, newlines among them.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html.
    """
    compile_plain = iam_evaluator._fnmatch_compile

    def compiled(pattern: str, ignore_case: bool) -> re.Pattern[str]:  # noqa: FBT001 - as it is
        plain = compile_plain(pattern, ignore_case)
        return re.compile(plain.pattern, plain.flags | re.DOTALL)

    iam_evaluator._fnmatch_compile = compiled


PATCHES: tuple[Callable[[], None], ...] = (
    run_python_in_the_lambda_runtime_client,
    give_functions_the_environment_of_lambda,
    honour_what_an_alias_is_configured_with,
    keep_the_request_id_through_retries,
    let_throttled_events_wait,
    send_whole_on_failure_records,
    deliver_events_asynchronously,
    accept_alarms_of_metric_math,
    refuse_to_delete_full_buckets,
    call_sqs_in_its_own_words,
    name_throttled_invocations,
    stop_whole_executions,
    run_distributed_maps_whole,
    count_the_items_of_batches,
    take_loopback_for_tls,
    let_wildcards_of_policies_match_newlines,
)


def log_requests(path: str) -> None:
    """Write a line a request to `path`, in the form of web servers' access logs."""
    from hypercorn.config import Config  # type: ignore[import-not-found]  # noqa: PLC0415

    Config.accesslog = path  # of the class: ministack makes its own instance


# --- start --------------------------------------------------------------------------------------
def end_with(stream: Any) -> None:
    """Kill this process group when `stream` ends, that is when its writer, our parent, is gone."""

    def wait() -> None:
        stream.read()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True, name="end-with-parent").start()


def main() -> None:
    """Patch ministack and serve until killed; its settings come from the environment."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--end-with-stdin", action="store_true", help="die when stdin is closed")
    parser.add_argument("--without", action="append", default=[], help="a patch to leave out")
    options = parser.parse_args()
    if options.end_with_stdin:
        end_with(sys.stdin)
    for patch in PATCHES:
        if patch.__name__ not in options.without:
            patch()
    if path := os.environ.get("REQUEST_LOG"):
        log_requests(path)
    from ministack.app import main as serve  # type: ignore[import-not-found]  # noqa: PLC0415

    sys.argv = ["ministack"]
    serve()


if __name__ == "__main__":
    main()
