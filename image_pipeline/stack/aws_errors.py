"""What the errors of AWS and of boto3 mean, in words, each with what to do next."""

import difflib
import re
from collections.abc import Iterable
from typing import Final

import botocore.session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    InvalidRegionError,
    LoginError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)

from image_pipeline.errors import CommandError, NotPermitted, PartFailed

DENIED_CODES: Final = re.compile(r"AccessDenied|AuthorizationError|Unauthorized|Forbidden|^403$")
"""Error codes of S3, SQS, KMS, SNS and others for a request that a policy denies.
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""

EXPIRED_CODES: Final = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")
"""Error codes for temporary credentials that have expired.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html"""

INVALID_CODES: Final = (
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "AuthFailure",
)
"""Error codes for an access key that does not exist or is disabled, for a wrong secret, and for a
region that the account has not enabled.
https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_general.html"""

SKEWED_CODES: Final = ("RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture")
"""Error codes for a request whose time is not that of AWS.
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""

THROTTLED_CODES: Final = re.compile(r"Throttl|TooManyRequests|SlowDown|RequestLimitExceeded")
"""Error codes for too many requests.
https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html"""

MISSING_CODES: Final = {
    "NoSuchBucket": "bucket",
    "QueueDoesNotExist": "queue",
    "AWS.SimpleQueueService.NonExistentQueue": "queue",
    "StateMachineDoesNotExist": "state machine",
    "NoSuchDistribution": "distribution",
}
"""Error code for a part of a stack that does not exist → what it is.
https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html"""

KEY_CODES: Final = re.compile(r"^(KMS\.?|Kms)(\w*)$|^(Disabled)Exception$", re.ASCII)
"""Error codes of S3, SQS, SNS and Lambda for a KMS key that cannot be used.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html"""

RESERVED_LIMIT: Final = "ReservedFunctionConcurrentInvocationLimitExceeded"
"""Lambda's reason for a refused invocation while the reserved concurrency is used up, or is 0.
https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html"""

NOT_AUTHORIZED: Final = re.compile(
    r"(?:User: )?(?P<who>arn:\S+)? ?is not authorized to perform: (?P<action>\S+)"
    r"(?: on resource: (?P<resource>\S+))?"
)
"""How most services word a denial.
https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html"""


def similar(name: str, known: Iterable[str]) -> str:
    """A question that offers the most similar of the `known` names; empty if none is similar."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def explain(error: Exception, profile: str | None = None) -> CommandError:
    """Say what an error of boto3 means and what to do; `profile` is the one that is used, if any.

    The result is NotPermitted for a denied request, and PartFailed where a part of the stack is
    missing, disabled or paused.
    """
    if isinstance(error, ClientError):
        return _refusal(error)
    words = _sign_in_problem(error, f" --profile {profile}" if profile else "")
    words = words or _connection_problem(error) or f"The request to AWS failed: {error}"
    return CommandError(words)


def _sign_in_problem(error: Exception, given: str) -> str:
    """Say what is wrong with credentials, profile or region; empty if the error is another one."""
    words = ""
    match error:
        case NoCredentialsError():
            words = (
                "There are no AWS credentials. Run `aws configure` or `aws configure sso`, set "
                "AWS_PROFILE, or pass --profile NAME."
            )
        case NoRegionError():
            words = (
                "There is no AWS region. Pass --region NAME, set AWS_REGION, or run "
                f"`aws configure set region NAME{given}`."
            )
        case PartialCredentialsError():
            words = f"The AWS credentials are incomplete: {error} Run `aws configure{given}`."
        case SSOError() | TokenRetrievalError():
            words = f"The sign-in to AWS has expired. Sign in: `aws sso login{given}`. ({error})"
        case LoginError():
            words = f"The sign-in to AWS has expired. Sign in: `aws login{given}`. ({error})"
        case CredentialRetrievalError():
            words = (
                f"The AWS credentials could not be read: {error} Check the profile in "
                "~/.aws/config, or pass another one with --profile NAME."
            )
        case ProfileNotFound():
            words = _unknown_profile(str(error.kwargs["profile"]))
        case InvalidRegionError():
            name = str(error.kwargs["region_name"])
            words = f"{name!r} is not a region of AWS.{similar(name, regions())}"
    return words


def _connection_problem(error: Exception) -> str:
    """Say why there is no answer; empty if the error is another one."""
    match error:
        case SSLError():
            return f"{error} If your network's proxy has its own certificate, set AWS_CA_BUNDLE."
        case (
            EndpointConnectionError()
            | ConnectTimeoutError()
            | ReadTimeoutError()
            | ConnectionClosedError()
            | ProxyConnectionError()
        ):
            return (
                f"{error}{_unknown_region(error)} Check the network, and that the endpoint is up."
            )
        case _:
            return ""


def regions() -> list[str]:
    """Every region that this version of botocore knows, in all partitions."""
    session = botocore.session.Session()
    return [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("cloudformation", partition)
    ]


def _unknown_profile(name: str) -> str:
    known = botocore.session.Session().available_profiles
    have = f"Your profiles: {', '.join(known)}." if known else "You have no profiles."
    return (
        f"There is no profile {name!r} in your AWS configuration.{similar(name, known)} {have} To "
        f"create it: `aws configure --profile {name}` or `aws configure sso --profile {name}`."
    )


def _unknown_region(error: BotoCoreError) -> str:
    """Say so if the endpoint's region is none that is known."""
    address = str(error.kwargs.get("endpoint_url", ""))
    found = re.match(r"https://[\w.-]*?\.([a-z]{2}[a-z-]*-\d+)\.amazonaws\.com", address)
    if not found or found[1] in (known := regions()):
        return ""
    return f" {found[1]!r} is not a region that is known here.{similar(found[1], known)}"


def _refusal(error: ClientError) -> CommandError:
    answer = error.response["Error"]
    code, message = answer.get("Code", ""), answer.get("Message", "")
    kind = CommandError
    if DENIED_CODES.search(code):
        kind, words = NotPermitted, _denial(error, message)
    elif KEY_CODES.search(code):
        kind, words = PartFailed, f"{_key_problem(code)} AWS says: {message}"
    elif code in MISSING_CODES:
        name = answer.get("BucketName", "")
        kind = PartFailed
        words = f"The {MISSING_CODES[code]}{f' {name}' * bool(name)} does not exist."
    elif code == "ResourceNotFoundException":  # of Lambda, CloudWatch Logs and others
        kind, words = PartFailed, f"A part of the stack does not exist: {message}"
    elif error.response.get("Reason") == RESERVED_LIMIT:
        kind = PartFailed
        words = (
            "Lambda refuses to invoke the function: it is paused, or its concurrency is used up."
        )
    elif THROTTLED_CODES.search(code):
        words = f"AWS refused the request: there were too many ({code}). Try again in a minute."
    elif code in EXPIRED_CODES:
        words = (
            "The AWS credentials have expired. Get new ones in the way that you got these, for "
            "example with `aws sso login --profile NAME`, or take others with --profile NAME."
        )
    elif code in INVALID_CODES:
        words = (
            f"AWS does not accept the credentials: {message} ({code}). Check the access key with "
            "`aws sts get-caller-identity`, and whether your account has enabled the region."
        )
    elif code in SKEWED_CODES:
        words = f"AWS refused the request: {message} Check the clock of this machine."
    else:
        words = f"AWS refused the request: {error}"
    return kind(words)


def _key_problem(code: str) -> str:
    if "Disabled" in code:
        return "The KMS key of the stack is disabled."
    if "NotFound" in code:
        return "The KMS key of the stack does not exist."
    return "The KMS key of the stack cannot be used."


def _denial(error: ClientError, message: str) -> str:
    """Say what is denied to whom, as far as AWS says so: S3 often gives no details."""
    ask = "Ask whoever manages the AWS account for this permission, or use another --profile."
    if found := NOT_AUTHORIZED.search(message):
        who = f" to {found['who']}" if found["who"] else ""
        resource = f" on {found['resource'].rstrip('.')}" if found["resource"] else ""
        return f"AWS denies {found['action']}{resource}{who}. {ask}"
    return f"AWS denies {error.operation_name}: {message.rstrip('.')}. {ask}"
