"""Step Functions: tasks, StopExecution, and Distributed Maps in JSONata."""

# ruff: noqa: SLF001 - ministack offers no other place to hook in

import json
from typing import Any, Final

from ministack.services import s3, stepfunctions  # type: ignore[import-not-found]


def use_the_json_protocol_of_sqs() -> None:
    """`aws-sdk:sqs` tasks use the field names of SQS's API: `Messages`, not `Message`.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html.
    ministack uses its XML protocol: state machines see no messages, and the queue loses them.
    """
    stepfunctions._AWS_SDK_SERVICE_MAP["sqs"] = {"target_prefix": "AmazonSQS", "protocol": "json"}


def name_throttled_invocations() -> None:
    """A throttled task fails with `Lambda.TooManyRequestsException`, which Retry can name.

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
    """The parent of an execution that a Distributed Map runs; any other execution itself."""
    run = stepfunctions._map_runs.get(execution.get("mapRunArn"))
    top: dict[str, Any] = stepfunctions._executions[run["executionArn"]] if run else execution
    return top


def stop_executions_within_maps() -> None:
    """StopExecution also ends what runs within Map states, and the child executions.

    https://docs.aws.amazon.com/step-functions/latest/apireference/API_StopExecution.html. In
    ministack these run to their end. A task that has begun is completed, as on AWS.
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
"""ARN of an execution → number of items of its Distributed Map."""


_tolerated: dict[str, tuple[float, float]] = {}
"""ARN of an execution → items of its Distributed Map that may fail, and percentage of them."""


def _failed_too_often(run: dict[str, Any]) -> bool:
    """Whether more items of a Map Run failed than are tolerated, in number or percentage."""
    count, percentage = _tolerated[run["executionArn"]]
    inputs = [json.loads(each["input"]) for each in _children(run) if each["status"] == "FAILED"]
    failed = sum(len(each["Items"]) for each in inputs)
    return failed > count or failed * 100 > percentage * _items[run["executionArn"]]


def _end_when_too_many_failed() -> None:
    """Start no further child of a Map Run of which too many items have failed."""
    run_states = stepfunctions._run_sub_machine

    def run_sub_machine(states: Any, first: Any, data: Any, execution: Any, context: Any) -> Any:
        run = stepfunctions._map_runs.get(execution.get("mapRunArn"))
        if run and run["executionArn"] in _tolerated and _failed_too_often(run):
            execution["status"] = "ABORTED"
            raise SystemExit  # ends this child; no Retry or Catch sees it
        return run_states(states, first, data, execution, context)

    stepfunctions._run_sub_machine = run_sub_machine


def _batched(items: list[Any], limits: dict[str, Any]) -> list[dict[str, Any]]:
    """Divide items into batches as ItemBatcher does."""
    batches: list[list[Any]] = []
    for item in items:
        grown = [*batches[-1], item] if batches else [item]
        fits = len(json.dumps(grown)) <= limits["MaxInputBytesPerBatch"]
        if batches and len(grown) <= limits["MaxItemsPerBatch"] and fits:
            batches[-1].append(item)
        else:
            batches.append([item])
    common = {"BatchInput": limits["BatchInput"]} if "BatchInput" in limits else {}
    return [{"Items": batch, **common} for batch in batches]


def _children(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The child executions of a Map Run."""
    executions = stepfunctions._executions.values()
    return [each for each in executions if each.get("mapRunArn") == run["mapRunArn"]]


RESULT_FIELDS: Final = ("executionArn", "name", "status", "input", "output", "error", "cause")


def _write_results(run: dict[str, Any], bucket: str, prefix: str) -> dict[str, Any]:
    """Write the files of ResultWriter, and return the output of the Map state.

    https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
    """
    folder = f"{prefix}/{run['mapRunArn'].rpartition(':')[2]}"

    def put(name: str, content: Any) -> dict[str, Any]:
        body = json.dumps(content).encode()
        s3._put_object(bucket, f"{folder}/{name}", body, {})
        return {"Key": f"{folder}/{name}", "Size": len(body)}

    files: dict[str, list[Any]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    for status in ("SUCCEEDED", "FAILED"):
        results = [
            {
                field[0].upper() + field[1:]: child[field]
                for field in RESULT_FIELDS
                if child.get(field) is not None
            }
            for child in _children(run)
            if child["status"] == status
        ]
        if results:
            files[status].append(put(f"{status}_0.json", results))
    manifest = {"DestinationBucket": bucket, "MapRunArn": run["mapRunArn"], "ResultFiles": files}
    key = put("manifest.json", manifest)["Key"]
    details = {"Bucket": bucket, "Key": key}
    return {"MapRunArn": run["mapRunArn"], "ResultWriterDetails": details}


def run_distributed_maps_in_jsonata() -> None:
    """A Distributed Map in JSONata selects, batches and limits its items, and writes its results.

    It ends when more items have failed than are tolerated, in number or percentage.
    https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html. ministack
    evaluates no JSONata there, has neither ItemBatcher nor ResultWriter, and runs every child.
    """
    _end_when_too_many_failed()
    run_children = stepfunctions._run_distributed_map

    def run_map(state: dict[str, Any], data: Any, *given: Any) -> Any:
        effective, iterator, execution, context = given
        if stepfunctions._state_query_language(state, context) != "JSONata":
            return run_children(state, data, effective, iterator, execution, context)

        def evaluated(field: str, item: Any = None) -> Any:
            known = {**context, "Map": {"Item": {"Value": item}}}
            return stepfunctions._apply_jsonata_template(state.get(field), data, known)

        items = stepfunctions._read_map_items(evaluated("ItemReader"), {}, context)
        if "ItemSelector" in state:
            items = [evaluated("ItemSelector", item) for item in items]
        _items[execution["executionArn"]] = len(items)
        if "ItemBatcher" in state:
            items = _batched(items, evaluated("ItemBatcher"))
        everything = (float("inf"), 100.0)
        limits = ("ToleratedFailureCount", "ToleratedFailurePercentage")
        count, percentage = (
            float(state.get(name, most)) for name, most in zip(limits, everything, strict=True)
        )
        none = not any(name in state for name in limits)
        _tolerated[execution["executionArn"]] = (0.0, 0.0) if none else (count, percentage)
        kept = ("Label", "Next", "End")
        plain: dict[str, Any] = {name: state[name] for name in kept if name in state}
        plain["ToleratedFailurePercentage"] = 100  # of batches; see below for items
        plain["MaxConcurrency"] = evaluated("MaxConcurrency")
        try:
            result, following = run_children(plain, data, items, iterator, execution, context)
        finally:
            runs = stepfunctions._map_runs.values()
            *_, run = (each for each in runs if each["executionArn"] == execution["executionArn"])
            if execution["status"] == "ABORTED":
                run["status"] = "ABORTED"
            elif "ResultWriter" in state:
                where = evaluated("ResultWriter")["Arguments"]
                result = _write_results(run, where["Bucket"], where["Prefix"])
        if _failed_too_often(run):
            run["status"] = "FAILED"
            raise stepfunctions._ExecutionError(
                "States.ExceedToleratedFailureThreshold",
                "The specified tolerated failure threshold was exceeded",
            )
        output = stepfunctions._apply_jsonata_output(
            state, data, context, result=result, default=result
        )
        stepfunctions._apply_state_assign(state, data, context, result=result)
        return output, following

    stepfunctions._run_distributed_map = run_map


def count_the_items_of_batches() -> None:
    """DescribeMapRun counts items; ministack counts the batches that they run in.

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
