"""Prove that a deployed stack works: each step uses what it proves, and leaves no trace.

Steps are small functions in a list. `smoke` runs the few of SMOKE, `verify` those of STEPS.
"""

import io
import json
import math
import secrets
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from botocore.exceptions import ClientError
from PIL import Image

from image_pipeline.errors import CommandError
from image_pipeline.stack import (
    backfill,
    cdn,
    costs,
    dead_letters,
    distribution,
    executions,
    replay,
)
from image_pipeline.stack.aws import DOCUMENTS, aws_errors_explained, list_objects
from image_pipeline.stack.aws_errors import DENIED_CODES
from image_pipeline.stack.deployed import ALIAS, Stack
from image_pipeline.stack.uploads import State
from image_pipeline.stack.verification import Run, Step
from thumbnailer.errors import InvalidEvent, PermanentError, SourceArchived, SourceEncrypted
from thumbnailer.imaging import ENCODERS
from thumbnailer.urls import thumbnail_url

S3_CLOCK_SECONDS: Final = 1.1
"""S3 reports times in whole seconds: what is written this much later has another one."""

OBJECTS: Final = 30
"""Images of the backfill: more than one batch (costs.BATCH)."""

MAX_WAITING: Final = 500
"""Messages on the queue with which a replay of one of them is not tried: it would take all of them
off the queue for a while. One execution of a replay takes 600 (iac/replay.asl.json)."""

HARMLESS_ALARMS: Final = ("replay-failed", "backfill-failed", "oldest-letter")
"""Alarms that may be set off, the first one that is quiet. Others must not: `function-errors` rolls
back a gradual deployment."""

POLLS: Final = 100
"""Requests of each kind that the waiting of a step may take, for the estimate of the cost. An
assumption: a few minutes of polling."""


def choose(only: Collection[str] = (), without: Collection[str] = ()) -> list[Step]:
    """The steps of STEPS to run: `only` these, with those that they need, `without` those.

    Raises CommandError for a step that needs one that is left out.
    """
    wanted = set(only) or {step.option for step in STEPS}
    for step in reversed(STEPS):  # a step needs earlier ones
        if step.option in wanted:
            wanted |= set(step.needs)
    chosen = [step for step in STEPS if step.option in wanted - set(without)]
    for step in chosen:
        for needed in set(step.needs) & set(without):
            raise CommandError(f"The step {step.option} needs {needed}: skip both or neither.")
    return chosen


def estimate(stack: Stack, steps: Sequence[Step]) -> float:
    """Dollars that the steps cost at most, without free tiers, by the table STEPS."""
    rates = costs.Rates.of(stack)
    images = sum(step.images for step in steps)
    files = sum(step.files for step in steps)
    polls = POLLS * len(steps)
    requests = {
        "s3_put_or_list": files,
        "s3_get_or_head": files + polls * rates.writes,
        "sqs_request": polls,
    }
    if stack.settings.distribution:  # what an upload is made into is replaced or deleted once
        requests["cloudfront_invalidation_path"] = files * rates.writes
    for step in steps:
        for name, count in step.requests.items():
            requests[name] = requests.get(name, 0) + count
    dollars: float = sum(costs.PRICES[name] * count for name, count in requests.items())
    return dollars + sum(costs.of_images(rates, images).values())


def intended_effects(run: Run, steps: Sequence[Step]) -> list[str]:
    """What the steps will do to the stack, in sentences for whoever decides."""
    stack, chosen = run.stack, {step.option for step in steps}
    files = sum(step.files for step in steps)
    where = f"s3://{stack.input_bucket}/{run.traces.folder}"
    said = [f"Uploads {files} small files to {where} and removes them and what is made of them."]
    if chosen & {"message", "archived", "encrypted", "attempts"}:
        said.append(
            "Puts messages on the dead-letter queue and removes them. The alarms letters-waiting, "
            "events-dropped and function-errors may go off: these failures are real."
        )
    if "replay" in chosen:
        said.append(f"Replays the messages with the error type {InvalidEvent.__name__}.")
    if "alarm" in chosen:
        with aws_errors_explained():
            subscribers = _subscribers(stack)
        who = f"Up to two messages go to {', '.join(subscribers)}." if subscribers else ""
        said.append(f"Sets an alarm off and back. {who or 'Nobody is subscribed to its topic.'}")
    return said


# --- what the steps do ---------------------------------------------------------------------------


def _identify(run: Run) -> str:
    caller = run.stack.aws.sts.get_caller_identity()
    _, _, _, region, account, *_ = run.stack.output("FunctionAliasArn").split(":")
    if caller["Account"] != account:
        raise CommandError(f"The stack is in account {account}, you are in {caller['Account']}.")
    return f"{caller['Arn']} in account {account}, {region}"


PHOTO: Final = "a photo + é 日本.jpg"
BROKEN: Final = "broken.jpg"
RETRIED: Final = "retried.jpg"


def _upload_image(run: Run) -> str:
    key = run.key(PHOTO)
    run.upload({key: _picture((200, 120, 40))})
    return key


def _wait_for_thumbnails(run: Run) -> str:
    run.expect_all_outputs([run.key(PHOTO)])
    return f"{len(run.stack.settings.outputs(run.key(PHOTO)))} written"


def _send_twice(run: Run) -> str:
    key = run.key(PHOTO)
    before = run.written(key)
    time.sleep(S3_CLOCK_SECONDS)
    for _ in range(2):
        run.stack.invoke(run.event(key, run.sent[key].etag))
    if run.written(key) != before:
        raise CommandError("the same event wrote its thumbnails again")
    return "nothing was written again"


def _send_missing(run: Run) -> str:
    result = run.stack.invoke(run.event(run.key("nothing.jpg"), "0" * 32))
    if not result["skipped"]:
        raise CommandError(f"the event of an object that does not exist gave {result}")
    return str(result["skipped"][0]["reason"])


def _overwrite(run: Run) -> str:
    key = run.key(PHOTO)
    older = run.sent[key].etag
    run.upload({key: _picture((30, 60, 200))})
    run.expect_all_outputs([key])
    run.stack.invoke(run.event(key, older))
    if not run.current(key):
        raise CommandError("the event of the older image won over the newer one")
    return "the event of the older image, sent late, changed nothing"


def _fetch(run: Run) -> str:
    """Fetch a thumbnail by its exact URL, and in each format by the URL without one."""
    first = run.stack.settings.specs[0]
    exact = _url(run, first.format)
    if run.stack.parameters.get("CdnPublicKey"):
        status = distribution.send("GET", exact).status
        if status != HTTPStatus.FORBIDDEN:
            raise CommandError(f"{exact} has no signature, but its status is {status}, not 403")
        return "a URL without a signature is refused"
    _expect_picture(run, exact, first.format, Accept="*/*")
    negotiated = run.stack.negotiated_formats
    key = cdn.negotiated_key(run.stack, run.key(PHOTO), first.size)
    url = thumbnail_url(run.stack.thumbnails_url or "", key)
    for name in negotiated:
        answer = _expect_picture(run, url, name, Accept=ENCODERS[name].content_type)
        if "accept" not in answer.headers.get("vary", "").lower():
            raise CommandError(f"{url} depends on Accept, but the answer's Vary does not say so")
    return ", ".join(["its exact URL", *negotiated])


def _url(run: Run, format_name: str, version: str = "") -> str:
    """The URL of the first size of the photo in this format."""
    settings = run.stack.settings
    key = settings.thumbnail_key(run.key(PHOTO), settings.specs[0].size, format_name)
    url = thumbnail_url(run.stack.thumbnails_url or "", key)
    return f"{url}?v={version}" if version else url


def _stored(run: Run, format_name: str) -> bytes:
    """The bytes of the first size of the photo in this format, as they are in the bucket."""
    settings = run.stack.settings
    key = settings.thumbnail_key(run.key(PHOTO), settings.specs[0].size, format_name)
    stored = run.stack.aws.s3.get_object(Bucket=settings.output_bucket, Key=key)
    return stored["Body"].read()


def _expect_picture(run: Run, url: str, format_name: str, **headers: str) -> distribution.Answer:
    """Fetch a URL. Raises CommandError unless the answer is the stored thumbnail in this format."""
    answer = distribution.send("GET", url, **headers)
    if answer.status != HTTPStatus.OK:
        raise CommandError(
            f"{url} has the status {answer.status}. Check the bucket's policy (CdnReads) and, with "
            "KmsKeyArn, the key's policy (CdnDecrypts); docs/security.md explains both"
        )
    if answer.body != _stored(run, format_name):
        raise CommandError(f"{url} shows another picture than the bucket has")
    wanted = {
        "content-type": ENCODERS[format_name].content_type,
        "x-content-type-options": "nosniff",
        "cache-control": run.stack.settings.cache_control,
    }
    for name, value in wanted.items():
        if (found := answer.headers.get(name)) != value:
            raise CommandError(f"{url} has {name}: {found} instead of {value}")
    return answer


def _fetch_newer(run: Run) -> str:
    """Fetch the overwritten photo by its new URL and, if that is invalidated, by the plain one."""
    settings, sent = run.stack.settings, run.sent[run.key(PHOTO)]
    first = settings.specs[0].format
    _expect_picture(run, _url(run, first, settings.picture_version(sent.etag, sent.focus)), first)
    if not settings.distribution:
        return "its versioned URL shows it"
    url, newer = _url(run, first), _stored(run, first)
    run.until(
        f"{url} was invalidated, but did not show the newer picture",
        lambda: distribution.send("GET", url).body == newer,
    )
    return "its versioned URL shows it, and the plain one too"


def _upload_broken(run: Run) -> str:
    key = run.key(BROKEN)
    run.upload({key: _picture((0, 0, 0))[:400]})
    return key


def _wait_for_message(run: Run) -> str:
    key = run.key(BROKEN)
    (outcome,) = run.expect([key], State.FAILED)
    count = len(run.messages(key))
    if count > 1:
        raise CommandError(f"the broken file has {count} messages instead of one")
    return outcome.failure.error_type if outcome.failure else ""


def _upload_archived(run: Run) -> str:
    return _expect_refusal(run, run.key("archived.jpg"), SourceArchived, StorageClass="GLACIER")


def _upload_encrypted(run: Run) -> str:
    encryption = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": secrets.token_bytes(32)}
    try:
        return _expect_refusal(run, run.key("encrypted.jpg"), SourceEncrypted, **encryption)
    except ClientError as error:
        if not DENIED_CODES.search(error.response["Error"]["Code"]):
            raise
        return "the bucket refuses such uploads"


def _expect_refusal(run: Run, key: str, expected: type[PermanentError], **more: Any) -> str:
    """Upload an image that S3 does not return, and wait for the message that says so."""
    body = _picture((90, 10, 120))
    run.expect_event(key)
    run.stack.aws.s3.put_object(Bucket=run.stack.input_bucket, Key=key, Body=body, **more)
    message = run.until(f"There is no message about {key}", partial(run.messages, key))[0]
    run.settled(key)
    if message.error_type != expected.__name__:
        raise CommandError(f"{message.error_type}: {message.error_message}")
    return message.error_type


def _find_log_lines(run: Run) -> str:
    group, key = run.stack.output("LogGroupName"), run.key(BROKEN)

    def failed() -> list[str]:
        pages = run.stack.aws.logs.get_paginator("filter_log_events").paginate(
            logGroupName=group,
            startTime=int(run.began.timestamp() * 1000),
            filterPattern=f'"{run.token}"',
        )
        messages = [each["message"] for page in pages for each in page["events"]]
        return [text for text in messages if '"action":"failed"' in text and BROKEN in text]

    line, *_ = run.until(f"No line about {key} arrived in {group}", failed)
    return f"request {json.loads(line)['request_id']}"


def _wait_for_metric(run: Run) -> str:
    def value() -> float:
        answer = run.stack.aws.cloudwatch.get_metric_statistics(
            Namespace=run.stack.output("MetricsNamespace"),
            MetricName="failed_count",
            Dimensions=[{"Name": "FunctionName", "Value": run.stack.function_name}],
            StartTime=run.began.replace(second=0, microsecond=0),
            EndTime=datetime.now(UTC),
            Period=60,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in answer["Datapoints"]))

    count = run.until("The metric failed_count did not arrive", value)
    return f"failed_count is {count:.0f}"


def _check_key(run: Run) -> str:
    stack, key_arn = run.stack, run.stack.output("KeyArn")
    made = stack.settings.outputs(run.key(PHOTO))
    objects = [(stack.settings.output_bucket, name) for name in made]
    if "UndeliveredEventsUrl" not in stack.outputs:  # else the input bucket is not the stack's
        objects.append((stack.input_bucket, run.key(PHOTO)))
    used: dict[str, str | None] = {}
    for bucket, name in objects:
        head = stack.aws.s3.head_object(Bucket=bucket, Key=name)
        used[f"s3://{bucket}/{name}"] = head.get("SSEKMSKeyId")
    for queue in stack.queues:
        answer = stack.aws.sqs.get_queue_attributes(
            QueueUrl=queue, AttributeNames=["KmsMasterKeyId"]
        )
        used[queue] = answer.get("Attributes", {}).get("KmsMasterKeyId")
    topic = stack.output("AlarmTopicArn")
    used[topic] = stack.aws.sns.get_topic_attributes(TopicArn=topic)["Attributes"].get(
        "KmsMasterKeyId"
    )
    for what, key in used.items():
        if key != key_arn:
            raise CommandError(f"{what} is encrypted with {key or 'no key'}, not with {key_arn}")
    return f"{len(used)} objects, queues and topics use {key_arn}"


def _fail_every_attempt(run: Run) -> str:
    """Send an event that the function refuses, and whose record a replay can read.

    A message of SQS without an id, which Lambda itself never sends, is an InvalidEvent. In an
    OnFailure record the same event names its upload.
    """
    key = run.key(RETRIED)
    run.upload({key: _picture((10, 200, 90))})
    run.expect_all_outputs([key])
    run.traces.remove_objects(run.stack.settings.output_bucket, run.traces.made_of([key]))
    body = json.dumps(run.event(key, run.sent[key].etag))
    run.expect_event(key)
    run.stack.aws.functions.invoke(
        FunctionName=run.stack.function_name,
        Qualifier=ALIAS,
        InvocationType="Event",
        Payload=json.dumps({"Records": [{"eventSource": "aws:sqs", "body": body}]}).encode(),
    )
    record, *_ = run.until(
        "Lambda left no OnFailure record on the dead-letter queue", lambda: run.messages(key)
    )
    run.settled(key)
    if record.error_type != InvalidEvent.__name__ or record.permanent is not None:
        raise CommandError(f"{record.error_type}: {record.error_message}")
    return f"{record.attempts} attempts"


def _replay(run: Run) -> str:
    key = run.key(RETRIED)
    run.follow("replay", replay.replay_all(run.stack, InvalidEvent.__name__))
    if not run.current(key):
        raise CommandError(
            "the replay ended, but made no thumbnails. Read the state Replay in the last execution "
            f"of {run.stack.output('ReplayStateMachineArn')}"
        )
    if run.messages(key):
        raise CommandError("the replay made the thumbnails, but left their message on the queue")
    return "made the thumbnails and deleted the message"


def _backfill(run: Run) -> str:
    stack = run.stack
    maximum = int(stack.output("BackfillMaximum"))
    number = min(OBJECTS, maximum)
    keys = [run.key(f"backfill/{each:02}.jpg") for each in range(number)]
    run.upload({key: _picture((8 * each, 100, 50)) for each, key in enumerate(keys)})
    run.expect_all_outputs(keys)
    run.traces.remove_objects(stack.settings.output_bucket, run.traces.made_of(keys))
    archived = run.key("backfill/archived.jpg")
    _expect_refusal(run, archived, SourceArchived, StorageClass="GLACIER")
    prefix = f"{run.traces.folder}backfill/"
    started = backfill.start(stack, prefix, None, concurrency=2, remake=False)
    run.traces.add(f"results of {started.arn}", lambda: _remove_results(run, started.arn))
    try:
        ended = run.follow("backfill", executions.watch(stack.aws.states, started.arn))
    except executions.ExecutionFailed as failed:
        raise backfill.explain(stack, failed.execution) or failed from failed
    result = backfill.result(stack, ended.output)
    if result.unreported:
        raise CommandError(f"A batch failed: {result.unreported[0]}")
    if result.failed:
        why = next((each.error_message for key in keys for each in run.messages(key)), "")
        raise CommandError(f"{result.failed} of {number} images failed: {why}")
    if not result.made or result.made + result.current != number or not all(map(run.current, keys)):
        raise CommandError(f"the backfill of {number} images made {result.made}")
    if result.archived != min(1, maximum - number):  # it is the last one in the listing
        raise CommandError(f"the backfill left out {result.archived} archived images, not one")
    (each,) = executions.map_runs(stack.aws.states, started.arn)
    batches = each["executionCounts"]["total"]
    if batches != math.ceil(number / costs.BATCH):
        raise CommandError(f"{number} images were in {batches} batches, not {costs.BATCH} in each")
    return f"{result.made} made in {batches} batches"


def _remove_results(run: Run, arn: str) -> None:
    """Remove what a backfill's ResultWriter wrote: a folder for each Map Run."""
    bucket, _, prefix = run.stack.output("BackfillResults").removeprefix("s3://").partition("/")
    for each in executions.map_runs(run.stack.aws.states, arn):
        folder = f"{prefix}{each['mapRunArn'].rpartition(':')[2]}/"
        found = list_objects(run.stack.aws.s3, bucket, folder)
        run.traces.remove_objects(bucket, [stored["Key"] for stored in found])


def _set_off_alarm(run: Run) -> str:
    aws, topic = run.stack.aws, run.stack.output("AlarmTopicArn")
    name, state = _quiet_alarm(run.stack)
    queue_url = _subscribe(run, topic)
    run.traces.add(
        f"the state ALARM of {name}, until CloudWatch evaluates it again",
        lambda: aws.cloudwatch.set_alarm_state(
            AlarmName=name, StateValue=state, StateReason=f"{REASON} It has ended."
        ),
    )
    aws.cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason=REASON)

    def notified() -> bool:
        answer = aws.sqs.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=dead_letters.MAX_BATCH, WaitTimeSeconds=1
        )
        bodies = [json.loads(each["Body"]) for each in answer.get("Messages", [])]
        said = [json.loads(body["Message"]) for body in bodies if "Message" in body]
        return any(
            (each["AlarmName"], each["NewStateValue"]) == (name, "ALARM")
            for each in said
            if "AlarmName" in each
        )

    run.until(f"The alarm {name} did not reach the topic {topic}", notified)
    return name


REASON: Final = "Set by image-pipeline verify: a test."


def _quiet_alarm(stack: Stack) -> tuple[str, str]:
    """Name and state of an alarm that may be set off, and does not go off already."""
    pages = stack.aws.cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix=f"{stack.name}-", AlarmTypes=["MetricAlarm"]
    )
    states = {
        str(alarm["AlarmName"]): str(alarm["StateValue"])
        for page in pages
        for alarm in page["MetricAlarms"]
    }
    for alarm in HARMLESS_ALARMS:
        name = f"{stack.name}-{alarm}"
        if states.get(name, "ALARM") != "ALARM":
            return name, states[name]
    raise CommandError(
        f"Each of the alarms {', '.join(HARMLESS_ALARMS)} of {stack.name} is missing or goes off"
    )


def _subscribe(run: Run, topic: str) -> str:
    """Subscribe a queue of this verification to a topic; its URL."""
    aws = run.stack.aws
    name = f"image-pipeline-verify-{run.token}"
    url = aws.sqs.create_queue(QueueName=name)["QueueUrl"]
    run.traces.add(f"the queue {name}", lambda: aws.sqs.delete_queue(QueueUrl=url))
    arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    allowed = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    subscription = aws.sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=arn, ReturnSubscriptionArn=True
    )["SubscriptionArn"]
    run.traces.add(
        f"the subscription {subscription}",
        lambda: aws.sns.unsubscribe(SubscriptionArn=subscription),
    )
    return url


def _subscribers(stack: Stack) -> list[str]:
    """Who gets what is published to the alarm topic."""
    pages = stack.aws.sns.get_paginator("list_subscriptions_by_topic").paginate(
        TopicArn=stack.output("AlarmTopicArn")
    )
    return [each["Endpoint"] for page in pages for each in page["Subscriptions"]]


def _delete_image(run: Run) -> str:
    key = run.key(PHOTO)
    run.expect_event(key)
    run.stack.aws.s3.delete_object(Bucket=run.stack.input_bucket, Key=key)
    run.until(f"What was made of {key} was not deleted", lambda: not run.written(key))
    run.settled(key)
    return "everything that was made of it is gone"


def _picture(colour: tuple[int, int, int]) -> bytes:
    """A small JPEG of a gradient towards `colour`."""
    drawn = Image.composite(
        Image.new("RGB", (256, 256), colour),
        Image.new("RGB", (256, 256), "white"),
        Image.linear_gradient("L"),
    )
    file = io.BytesIO()
    drawn.save(file, "JPEG")
    return file.getvalue()


# --- when a step does not apply -------------------------------------------------------------------


def _unless_key(stack: Stack) -> str:
    return "" if "KeyArn" in stack.outputs else "the stack has no KMS key of its own"


def _unless_cdn(stack: Stack) -> str:
    return "" if stack.thumbnails_url else "Cdn is false"


def _unless_public_cdn(stack: Stack) -> str:
    private = "the CDN serves signed URLs only" if stack.parameters.get("CdnPublicKey") else ""
    return _unless_cdn(stack) or private


def _unless_deleting(stack: Stack) -> str:
    return "" if stack.settings.delete_with_original else "DeleteWithOriginal is false"


def _unless_shifting(stack: Stack) -> str:
    alias = stack.aws.functions.get_alias(FunctionName=stack.function_name, Name=ALIAS)
    shifting = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights")
    return "a gradual deployment is under way, which its errors would roll back" if shifting else ""


def _unless_full(stack: Stack) -> str:
    waiting = dead_letters.count_messages(stack)
    return f"{waiting:,} messages are on the queue: replay them" if waiting > MAX_WAITING else ""


STEPS: Final = (
    Step(
        "identity",
        "identify the account and the region",
        _identify,
        "The credentials are of the stack's account.",
        f"{DOCUMENTS}/STS/latest/APIReference/API_GetCallerIdentity.html",
    ),
    Step(
        "upload",
        "upload an image",
        _upload_image,
        "The bucket takes an upload whose key has a space, a plus and non-ASCII letters.",
        f"{DOCUMENTS}/AmazonS3/latest/userguide/object-keys.html",
        files=1,
        images=1,
    ),
    Step(
        "thumbnails",
        "wait for its thumbnails",
        _wait_for_thumbnails,
        "The stack's own event route delivers the key; the role may read originals and write "
        "thumbnails (ReadUploads, ReadAndWriteThumbnails).",
        f"{DOCUMENTS}/AmazonS3/latest/userguide/notification-content-structure.html "
        f"{DOCUMENTS}/AmazonS3/latest/userguide/ev-events.html",
        needs=("upload",),
    ),
    Step(
        "url",
        "fetch a thumbnail by its URL",
        _fetch,
        "The CDN may read the thumbnails, also encrypted ones (CdnReads, CdnDecrypts), serves each "
        "client the format that it accepts, and has the right headers. With CdnPublicKey, it "
        "refuses a URL without a signature.",
        f"{DOCUMENTS}/AmazonCloudFront/latest/DeveloperGuide/"
        "private-content-restricting-access-to-s3.html",
        needs=("thumbnails",),
        unless=_unless_cdn,
        requests={
            "s3_get_or_head": 8,
            "cloudfront_request": 4,
            "cloudfront_function_invocation": 6,
        },
    ),
    Step(
        "twice",
        "send its event twice",
        _send_twice,
        "A repeated event writes nothing: the conditions of S3's conditional writes hold.",
        f"{DOCUMENTS}/AmazonS3/latest/userguide/conditional-writes.html",
        needs=("thumbnails",),
        images=2,
    ),
    Step(
        "overwrite",
        "overwrite the image",
        _overwrite,
        "The newer image wins, also over the older one's event that arrives late.",
        f"{DOCUMENTS}/AmazonS3/latest/userguide/conditional-writes.html",
        needs=("thumbnails",),
        files=1,
        images=2,
    ),
    Step(
        "fresh",
        "fetch the newer image",
        _fetch_newer,
        "The URL with the new version shows the newer picture, whatever is cached. With "
        "CdnInvalidate, so does the URL without a version (InvalidateThumbnails).",
        f"{DOCUMENTS}/AmazonCloudFront/latest/DeveloperGuide/QueryStringParameters.html",
        needs=("url", "overwrite"),
        unless=_unless_public_cdn,
        requests={"s3_get_or_head": 4, "cloudfront_request": POLLS},
    ),
    Step(
        "missing",
        "send the event of a missing object",
        _send_missing,
        "S3 answers 404 and not 403 for a missing object (TellMissingFromForbidden).",
        f"{DOCUMENTS}/AmazonS3/latest/API/API_GetObject.html",
        requests={"lambda_request": 1, "s3_get_or_head": 1},
    ),
    Step(
        "key",
        "check the KMS key",
        _check_key,
        "Objects, queues and topic are encrypted with the stack's key (UseKey).",
        f"{DOCUMENTS}/AmazonS3/latest/API/API_HeadObject.html",
        needs=("thumbnails",),
        unless=_unless_key,
    ),
    Step(
        "broken",
        "upload a broken file",
        _upload_broken,
        "The bucket takes a file that is no image.",
        f"{DOCUMENTS}/AmazonS3/latest/API/API_PutObject.html",
        files=1,
        images=1,
    ),
    Step(
        "message",
        "wait for its dead-letter message",
        _wait_for_message,
        "A broken file becomes one message: the role may send it (SendDeadLetters).",
        f"{DOCUMENTS}/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html",
        needs=("broken",),
    ),
    Step(
        "archived",
        "upload an archived image",
        _upload_archived,
        "S3 refuses to return an object in an archive storage class with InvalidObjectState, and "
        "the function does not retry it.",
        f"{DOCUMENTS}/AmazonS3/latest/API/API_GetObject.html",
        files=1,
        images=1,
        requests={"s3_put_or_list": 6},
    ),
    Step(
        "encrypted",
        "upload an image with a key of its own",
        _upload_encrypted,
        "S3 refuses to return an object with SSE-C with a message that the function recognises.",
        f"{DOCUMENTS}/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html",
        files=1,
        images=1,
    ),
    Step(
        "logs",
        "find its log lines",
        _find_log_lines,
        "The function's log arrives in the stack's log group (WriteLogs).",
        f"{DOCUMENTS}/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html",
        needs=("message",),
    ),
    Step(
        "attempts",
        "let an event fail in every attempt",
        _fail_every_attempt,
        "Lambda retries an event that is sent to the alias, and leaves its OnFailure record with "
        "the function's role (SendDeadLetters). On AWS this takes three minutes.",
        f"{DOCUMENTS}/lambda/latest/dg/invocation-async-retain-records.html",
        unless=_unless_shifting,
        files=1,
        images=4,
    ),
    Step(
        "replay",
        "replay what failed",
        _replay,
        "The replay state machine reads and deletes messages, and invokes the function "
        "(TakeLetters, InvokeFunction).",
        f"{DOCUMENTS}/step-functions/latest/dg/supported-services-awssdk.html",
        needs=("attempts",),
        unless=_unless_full,
        images=1,
        requests={"step_functions_transition": 150},
    ),
    Step(
        "backfill",
        "backfill images without thumbnails",
        _backfill,
        "The Distributed Map lists, batches and writes its results (ListUploads, RunBatches, "
        "WriteResults, InvokeFunction); the function may tell missing thumbnails from forbidden "
        "ones (TellMissingFromForbidden). An archived image is left out.",
        f"{DOCUMENTS}/step-functions/latest/dg/state-map-distributed.html",
        files=OBJECTS + 1,
        images=2 * OBJECTS + 1,
        requests={
            "s3_put_or_list": 14,
            "step_functions_transition": 2 * costs.BATCH_TRANSITIONS + 4,
        },
    ),
    Step(
        "alarm",
        "set off an alarm",
        _set_off_alarm,
        "An alarm may publish to the topic, with the key too, and the topic delivers it.",
        f"{DOCUMENTS}/AmazonCloudWatch/latest/APIReference/API_SetAlarmState.html",
        requests={"sqs_request": 6},
    ),
    Step(
        "metrics",
        "wait for the metrics",
        _wait_for_metric,
        "CloudWatch makes metrics of the function's log lines. On AWS this takes some minutes.",
        f"{DOCUMENTS}/AmazonCloudWatch/latest/monitoring/"
        "CloudWatch_Embedded_Metric_Format_Specification.html",
        needs=("message",),
        requests={"cloudwatch_request": POLLS},
    ),
    Step(
        "deletion",
        "delete the image",
        _delete_image,
        "Deleting an image deletes what was made of it (DeleteThumbnails).",
        f"{DOCUMENTS}/AmazonS3/latest/userguide/notification-how-to-event-types-and-destinations.html",
        needs=("thumbnails",),
        unless=_unless_deleting,
        requests={"lambda_request": 1, "s3_put_or_list": 1},
    ),
)
"""The steps of a verification, in their order, with what each sends: the table of its cost."""

SMOKE: Final = tuple(
    step for step in STEPS if step.option in {"upload", "thumbnails", "url", "broken", "message"}
)
"""The steps of the short form."""
