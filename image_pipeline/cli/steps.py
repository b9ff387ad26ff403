"""Run the steps of a verification, and show what became of each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from image_pipeline.cli.output import err, foreign, out
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.stack.verification import Result, Run, Step, verify


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show what is waited for on standard error, while that is a terminal."""
    with err.status("") as spinner:
        yield lambda doing: spinner.update(foreign(doing))


def run_steps(run: Run, steps: Sequence[Step], *, quiet: bool) -> list[Result]:
    """Run the steps and clean up; unless `quiet`, print each result as it is known."""
    results = []
    with stopped_by_signals(), closing(verify(run, steps)) as verification:
        for result in verification:
            results.append(result)
            if not quiet:
                show(result)
    return results


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
