"""With IAM enforced: what a service does for another needs a policy, as a request does.

ministack checks the requests that reach its port. What its services do within one process it does
not check: deliver events, run tasks, send records, publish alarms, write logs.
"""

# ruff: noqa: SLF001 - ministack offers no other place to hook in

import contextvars
import http
import logging
from typing import Any, Final

from ministack import app as ministack  # type: ignore[import-not-found]
from ministack.core import iam_evaluator, responses, router  # type: ignore[import-not-found]
from ministack.services import (  # type: ignore[import-not-found]
    cloudwatch,
    cloudwatch_logs,
    eventbridge,
    lambda_svc,
    s3,
    sns,
    sqs,
    stepfunctions,
)

from image_pipeline.local.patches import step_functions

logger: Final = logging.getLogger(__name__)

_role: contextvars.ContextVar[str] = contextvars.ContextVar("role", default="")
"""ARN of the role of the state machine that runs."""


def role_allows(role_arn: str, action: str, resource: str) -> bool:
    """Whether the policies of a role allow an action. Everything is allowed without AUTH."""
    if not ministack.AUTH:
        return True
    account = role_arn.split(":")[4]
    policies = iam_evaluator._gather_role_policies(role_arn.rpartition("/")[2], account)
    context = iam_evaluator.EvalContext(
        role_arn, "AssumedRole", account, action, resource, responses.get_region()
    )
    allowed = bool(iam_evaluator.evaluate(context, policies).decision == "Allow")
    if not allowed:
        logger.warning("%s may not %s on %s", role_arn, action, resource)
    return allowed


def function_allows(function_arn: str, service: str, source_arn: str) -> bool:
    """Whether the policy of a function or alias lets a service invoke it for a resource.

    Everything is allowed without AUTH.
    """
    function, _, name = lambda_svc._get_func_record_for_ref(function_arn)
    if not ministack.AUTH or not function:
        return True
    context = iam_evaluator.EvalContext(
        "*",
        "Service",
        "",
        "lambda:InvokeFunction",
        function_arn,
        responses.get_region(),
        service_context={
            "aws:sourcearn": source_arn,
            "aws:sourceaccount": responses.get_account_id(),
        },
    )
    policy = lambda_svc._functions[name]["policy"]
    found = iam_evaluator.evaluate_resource_policy(policy, context, service=service)
    return bool(found.decision == "Allow")


def hide_what_is_missing_from_those_who_may_not_list() -> None:
    """Without s3:ListBucket, S3 answers 403 instead of 404 for an object that does not exist.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    handle = s3.handle_request

    async def handle_request(
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        query: dict[str, list[str]],
        *given: Any,
        **more: Any,
    ) -> Any:
        answer = await handle(method, path, headers, body, query, *given, **more)
        bucket, _, key = path.lstrip("/").partition("/")
        missing = answer[0] == http.HTTPStatus.NOT_FOUND and key and bucket in s3._buckets
        if not ministack.AUTH or not missing or method not in {"GET", "HEAD"}:
            return answer
        denied = iam_evaluator.enforce(
            router.extract_access_key_id(headers, query),
            "s3:ListBucket",
            "s3",
            responses.get_region(),
            f"arn:aws:s3:::{bucket}",
        )
        refused = http.HTTPStatus.FORBIDDEN.value
        return s3._error("AccessDenied", "Access Denied", refused) if denied else answer

    s3.handle_request = handle_request


def invoke_functions_that_allow_it() -> None:
    """S3 and EventBridge invoke a function only if its policy allows it.

    https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html. An event of S3
    is dropped; one of EventBridge goes to the queue of its target.
    """
    deliver, dispatch = s3._deliver_event_to_lambda, eventbridge._dispatch_to_lambda

    def deliver_if_allowed(arn: str, payload: dict[str, Any], region: str) -> None:
        source = payload["Records"][0]["s3"]["bucket"]["arn"]
        if function_allows(arn, "s3.amazonaws.com", source):
            deliver(arn, payload, region)

    def dispatch_if_allowed(arn: str, payload: str) -> None:
        of_the_function = {
            eventbridge._rules[name]["Arn"]: target
            for name, targets in eventbridge._targets.items()
            for target in targets
            if target["Arn"] == arn
        }
        if any(function_allows(arn, "events.amazonaws.com", rule) for rule in of_the_function):
            dispatch(arn, payload)
            return
        for target in of_the_function.values():
            if queue := sqs._queue_by_arn(target.get("DeadLetterConfig", {}).get("Arn", "")):
                sqs._act_send_message({"MessageBody": payload}, queue["url"])

    s3._deliver_event_to_lambda = deliver_if_allowed
    eventbridge._dispatch_to_lambda = dispatch_if_allowed


def send_records_with_the_role_of_the_function() -> None:
    """Lambda sends an OnFailure record with the function's role.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    route = lambda_svc._route_async_failure

    def route_failure(target_arn: str, func_name: str, event: Any, result: dict[str, Any]) -> None:
        role = lambda_svc._functions[func_name]["config"]["Role"]
        if role_allows(role, "sqs:SendMessage", target_arn):
            route(target_arn, func_name, event, result)

    lambda_svc._route_async_failure = route_failure


def write_logs_with_the_role_of_the_function() -> None:
    """Lambda writes a function's log with its role, and to no group that does not exist.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html. The group is made
    with a permission that our function does not have.
    """
    emit = lambda_svc._emit_lambda_logs

    def emit_logs(function: dict[str, Any], *given: Any, **more: Any) -> None:
        config = function.get("config") or function
        group = (config.get("LoggingConfig") or {}).get("LogGroup")
        region, account = responses.get_region(), responses.get_account_id()
        arn = f"arn:aws:logs:{region}:{account}:log-group:{group}"
        if group and not role_allows(config["Role"], "logs:PutLogEvents", f"{arn}:log-stream:new"):
            return
        exists = group in cloudwatch_logs._log_groups
        if group and not exists and not role_allows(config["Role"], "logs:CreateLogGroup", arn):
            return
        emit(function, *given, **more)

    lambda_svc._emit_lambda_logs = emit_logs


def publish_alarms_that_the_topic_allows() -> None:
    """CloudWatch publishes an alarm only if the topic's policy allows it.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html
    """
    act = cloudwatch._dispatch_alarm_actions

    def dispatch(alarm: dict[str, Any], *given: Any) -> None:
        account = responses.get_account_id()

        def allowed(topic: str) -> bool:
            service = "cloudwatch.amazonaws.com"
            return bool(sns.topic_policy_allows(topic, service, alarm["AlarmArn"], account))

        fields = ("AlarmActions", "OKActions", "InsufficientDataActions")
        kept = {name: [arn for arn in alarm.get(name) or [] if allowed(arn)] for name in fields}
        act({**alarm, **kept}, *given)

    cloudwatch._dispatch_alarm_actions = dispatch


def _assume(execution: dict[str, Any]) -> None:
    """Act with the role of an execution's state machine."""
    machine = execution["stateMachineArn"].split("/")[0]  # a child's has the label of its Map
    _role.set(stepfunctions._state_machines[machine]["roleArn"])


def _require(action: str, resource: str, error: str) -> None:
    """Raise the error of a state unless the role of its state machine allows an action."""
    if _role.get() and not role_allows(_role.get(), action, resource):
        cause = f"{_role.get()} is not authorized to perform: {action} on {resource}"
        raise stepfunctions._ExecutionError(error, cause)


def run_tasks_with_the_role_of_the_state_machine() -> None:
    """Step Functions invokes functions and uses queues with the state machine's role.

    https://docs.aws.amazon.com/step-functions/latest/dg/procedure-create-iam-role.html. Tasks of
    other services are not checked.
    """
    execute, invoke = stepfunctions._execute_task, stepfunctions._invoke_resource

    def execute_task(state: Any, data: Any, execution: dict[str, Any], context: Any) -> Any:
        _assume(execution)
        return execute(state, data, execution, context)

    def invoke_resource(resource: str, given: Any) -> Any:
        if "states:::lambda:invoke" in resource:
            name = given.get("FunctionName", "")
            _require("lambda:InvokeFunction", name, "Lambda.AWSLambdaException")
        elif "aws-sdk:sqs:" in resource:
            operation = resource.rpartition(":")[2].removesuffix("Batch")
            if queue := sqs._queues.get(given.get("QueueUrl", "")):
                action = f"sqs:{operation[0].upper()}{operation[1:]}"
                _require(action, queue["attributes"]["QueueArn"], "Sqs.SqsException")
        return invoke(resource, given)

    stepfunctions._execute_task = execute_task
    stepfunctions._invoke_resource = invoke_resource


def run_maps_with_the_role_of_the_state_machine() -> None:
    """A Distributed Map lists objects, runs batches and writes results with the same role.

    https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
    """
    run_map = stepfunctions._run_distributed_map
    read, write = stepfunctions._read_map_items, step_functions._write_results

    def run_distributed_map(*given: Any) -> Any:
        execution = given[4]
        _assume(execution)
        _require("states:StartExecution", execution["stateMachineArn"], "States.Permissions")
        return run_map(*given)

    def read_items(reader: Any, *given: Any) -> Any:
        arguments = reader.get("Arguments") or reader.get("Parameters") or {}
        bucket = f"arn:aws:s3:::{arguments.get('Bucket')}"
        _require("s3:ListBucket", bucket, "States.ItemReaderFailed")
        return read(reader, *given)

    def write_results(run: Any, bucket: str, prefix: str) -> Any:
        where = f"arn:aws:s3:::{bucket}/{prefix}/result"
        _require("s3:PutObject", where, "States.ResultWriterFailed")
        return write(run, bucket, prefix)

    stepfunctions._run_distributed_map = run_distributed_map
    stepfunctions._read_map_items = read_items
    step_functions._write_results = write_results
