"""Lambda: events are retried, and end at the OnFailure destination."""

# ruff: noqa: SLF001 - ministack offers no other place to hook in

import contextvars
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ministack.services import lambda_svc, sqs  # type: ignore[import-not-found]

THROTTLED_RETRY_SECONDS: Final = 0.1
"""Between two attempts to find free concurrency."""


@dataclass
class Delivery:
    """An event on its way to a function, and the attempts made so far."""

    request_id: str
    attempts: int = 0
    alias: str | None = None


_delivery: contextvars.ContextVar[Delivery | None] = contextvars.ContextVar(
    "delivery", default=None
)


def use_the_event_settings_of_aliases() -> None:
    """The event settings of an alias decide retries and OnFailure of events that are sent to it.

    https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html. ministack
    uses only the settings of the function itself, so an alias's OnFailure receives nothing. It does
    not pass on the alias either: this patch takes the alias that points at the version.
    """
    invoke_async = lambda_svc.invoke_async_with_retry

    def invoke(func: dict[str, Any], event: Any) -> None:
        config = func.get("config") or func
        base = lambda_svc._functions.get(config["FunctionName"]) or {}
        configs = base.get("event_invoke_configs") or {}
        for alias, record in (base.get("aliases") or {}).items():
            if alias in configs and record["FunctionVersion"] == config.get("Version"):
                func = {**func, "config": config, "event_invoke_config": configs[alias]}
                if delivery := _delivery.get():
                    delivery.alias = alias
        invoke_async(func, event)

    lambda_svc.invoke_async_with_retry = invoke


def keep_the_request_id_through_retries() -> None:
    """The retries of an event carry the request id of its first attempt.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-retries.html. So dead-letter messages
    and log lines with one id belong to one event. ministack gives each attempt an id of its own.
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
    """An event that finds no free concurrency waits for it, up to six hours, and keeps its retries.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html. ministack
    counts a throttled attempt as a failed one, so a burst of uploads would end in failures.
    """
    execute = lambda_svc._execute_function

    def execute_when_free(func: dict[str, Any], event: Any) -> Any:
        result = execute(func, event)
        while _delivery.get() and isinstance(result, dict) and result.get("throttle"):
            time.sleep(THROTTLED_RETRY_SECONDS)
            result = execute(func, event)
        return result

    lambda_svc._execute_function = execute_when_free


def send_complete_on_failure_records() -> None:
    """An OnFailure record has a version, time, request id, number of attempts, executed version.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html. ministack
    leaves these out, and always reports three attempts.
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
