"""EventBridge: events reach the function as asynchronous invocations."""

# ruff: noqa: SLF001 - ministack offers no other place to hook in

import json

from ministack.services import eventbridge, lambda_svc, sqs  # type: ignore[import-not-found]


def deliver_events_asynchronously() -> None:
    """EventBridge invokes a function asynchronously, with retries and then OnFailure.

    https://docs.aws.amazon.com/lambda/latest/dg/with-eventbridge-scheduler.html. ministack invokes
    it once and ignores the result. An event that cannot be delivered goes to the queue of its
    target (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html).
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
