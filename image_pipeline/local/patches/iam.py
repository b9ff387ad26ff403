"""IAM: how policies are evaluated."""

# ruff: noqa: SLF001 - ministack offers no other place to hook in

import re
from typing import Any

from ministack.core import iam_evaluator  # type: ignore[import-not-found]


def treat_loopback_as_tls() -> None:
    """Requests count as sent over TLS (`aws:SecureTransport`), as those to AWS's endpoints are.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html.
    ministack serves plain HTTP on loopback, so policies that require TLS would refuse everything.
    """
    resolve = iam_evaluator._resolve_condition_key

    def resolved(key: str, context: Any) -> Any:
        return "true" if key.lower() == "aws:securetransport" else resolve(key, context)

    iam_evaluator._resolve_condition_key = resolved


def let_wildcards_match_newlines() -> None:
    """`*` in a policy matches any characters of a key, including newlines.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html.
    In ministack it stops at a newline.
    """
    compile_plain = iam_evaluator._fnmatch_compile

    def compiled(pattern: str, ignore_case: bool) -> re.Pattern[str]:  # noqa: FBT001 - as it is
        plain = compile_plain(pattern, ignore_case)
        return re.compile(plain.pattern, plain.flags | re.DOTALL)

    iam_evaluator._fnmatch_compile = compiled
