"""Error codes of S3 that are answers and not failures, the same for every boto3 client.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
"""

from typing import Final

MISSING_CODES: Final = frozenset({"404", "NoSuchKey", "NotFound"})
"""The object does not exist. The answer to a HEAD has no code, so its status is the code.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html"""

CHANGED_CODES: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
"""The condition of a request does not hold, or no longer.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html"""
