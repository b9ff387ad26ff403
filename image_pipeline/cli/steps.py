"""Run the steps of a verification, and show what became of each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from image_pipeline.cli.output import err, foreign, out
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.stack.verification import CLEAN_UP, Result, Run, Step, verify

INTERRUPTED_CODE: Final = 130
"""Exit code after Ctrl-C, as of a shell: 128 and the number of SIGINT."""


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show what is waited for on standard error, while that is a terminal."""
    with err.status("") as spinner:
        yield lambda doing: spinner.update(foreign(doing))


@dataclass
class Ended:
    """How a verification ended: what became of each step, and the exit code of the command."""

    results: list[Result] = field(default_factory=list)
    code: int = 0

    def to_json(self, what: str) -> dict[str, Any]:
        """The outcome of `what` for scripts: each fact by itself, and all of them as a text.

        `failed_step` is the first step that failed or was interrupted, `left` what the clean-up
        could not remove.
        """
        errors = {each.step: each.error for each in self.results if each.error}
        left = errors.pop(CLEAN_UP.option, None)
        return {
            "ok": not self.code,
            "failed_step": next(iter(errors), None),
            "left": left,
            "error": failure_of(self.results, what) or None,
        }


def run_steps(run: Run, steps: Sequence[Step], *, quiet: bool) -> Ended:
    """Run the steps and clean up; unless `quiet`, print each result as it is known.

    After Ctrl-C or SIGTERM it returns too, with the exit code of a command that was interrupted.
    """
    ended = Ended()
    with stopped_by_signals(), closing(verify(run, steps)) as verification:
        try:
            for result in verification:
                ended.results.append(result)
                if not quiet:
                    show(result)
        except KeyboardInterrupt:
            ended.code = INTERRUPTED_CODE
        except SystemExit as signalled:
            ended.code = int(signalled.code or 0)
    if any(each.error for each in ended.results):
        ended.code = ended.code or 1
        if not quiet:
            status = f"image-pipeline status{run.stack.options}"
            err.print(f"See the state of every part: {status}", soft_wrap=True)
    return ended


def show(result: Result) -> None:
    """Print a result: in one line, but a failure on standard error with what it means."""
    if result.error:
        err.print(f"[bold red]✗ {result.name}[/]: {foreign(result.error)}", soft_wrap=True)
        err.print(f"  It proves: {result.proves}\n  See {result.document}", soft_wrap=True)
    elif result.skipped:
        out.print(f"[yellow]-[/] {result.name}: not run, {foreign(result.skipped)}", soft_wrap=True)
    else:
        found = f": {foreign(result.found)}" if result.found else ""
        out.print(f"[green]✓[/] {result.name} ({result.seconds} s){found}", soft_wrap=True)


def failure_of(results: Sequence[Result], what: str) -> str:
    """Why `what` failed: the step that failed first, its clean-up second. Empty if none did."""
    return "\n".join(
        f"The {what} failed at the step {each.name!r}: {each.error}"
        for each in results
        if each.error
    )
