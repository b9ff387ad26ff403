"""A target of a benchmark: its bound, what was measured, and what limits it where it is missed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A target, its bound, and the measured value. `limit` is what limits it, if it is missed."""

    what: str
    bound: str
    measured: str
    met: bool
    limit: str = ""


def at_most(what: str, measured: float, bound: float, limit: str) -> Target:
    """A target whose value may be at most `bound`; `limit` is kept if it is more."""
    met = measured <= bound
    return Target(what, f"≤ {bound:g}", f"{measured:.3g}", met, "" if met else limit)


def at_least(what: str, measured: float, bound: float, limit: str) -> Target:
    """A target whose value must be at least `bound`; `limit` is kept if it is less."""
    met = measured >= bound
    shown = f"{measured:,.0f}" if abs(measured) >= 100 else f"{measured:g}"  # noqa: PLR2004
    return Target(what, f"≥ {bound:,g}", shown, met, "" if met else limit)
