"""Files as lists of named parts (chunks, segments, boxes, blocks), and damage to such a list."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple, Self

from fuzz.bytewise import another_number, damage_bytes

MAX_REPEATED_BYTES: Final = 300_000
"""Of the copies that one repetition adds: small files that are slow are the interesting ones."""


@dataclass(slots=True)
class Part:
    """A part of a file. Where parts are nested, `children` follow `body`.

    `length` is what the file states, if that is false.
    """

    name: bytes
    body: bytes = b""
    children: "list[Part]" = field(default_factory=list)
    length: int | None = None

    def copy(self) -> Self:
        """Copy this part with its children."""
        return replace(self, children=[child.copy() for child in self.children])

    @property
    def size(self) -> int:
        """Bytes of its bodies."""
        return len(self.body) + sum(child.size for child in self.children)


class Grammar(NamedTuple):
    """What is known of a format's parts.

    `fields` are the sizes in bytes of the numbers that the body of a part begins with. `inner`
    are functions that damage the body of a part by its own structure.
    """

    order: Literal["big", "little"]
    fields: Mapping[bytes, tuple[int, ...]]
    inner: Mapping[bytes, Callable[[bytes, random.Random], bytes]] = {}


def damage(parts: list[Part], others: Sequence[Part], grammar: Grammar, rng: random.Random) -> None:
    """Damage one of the parts, or their order; `others` are parts of another file to copy."""
    places = [(siblings, at) for siblings in _lists(parts) for at in range(len(siblings))]
    if places:
        siblings, at = rng.choice(places)
        rng.choice(DAMAGES)(siblings, at, others, grammar, rng)


def _lists(parts: list[Part]) -> Iterator[list[Part]]:
    """Yield the list, and those of the children, their children and so on."""
    yield parts
    for part in parts:
        yield from _lists(part.children)


def _change_field(
    parts: list[Part], at: int, _others: Sequence[Part], grammar: Grammar, rng: random.Random
) -> None:
    part = parts[at]
    if not part.body:
        return
    if sizes := grammar.fields.get(part.name):
        index = rng.randrange(len(sizes))
        start, size = sum(sizes[:index]), sizes[index]
    else:  # numbers are usually aligned
        size = rng.choice((1, 2, 4))
        start = rng.randrange(0, len(part.body), min(size, 2))
    if start + size <= len(part.body):
        value = int.from_bytes(part.body[start : start + size], grammar.order)
        number = another_number(value, size, rng).to_bytes(size, grammar.order)
        part.body = part.body[:start] + number + part.body[start + size :]


def _change_body(
    parts: list[Part], at: int, others: Sequence[Part], grammar: Grammar, rng: random.Random
) -> None:
    part = parts[at]
    if part.name in grammar.inner:
        part.body = grammar.inner[part.name](part.body, rng)
    else:
        bodies = [each.body for each in others if each.name == part.name]
        part.body = damage_bytes(part.body, bodies or [part.body], rng)


def _drop(
    parts: list[Part], at: int, _others: Sequence[Part], _grammar: Grammar, _rng: random.Random
) -> None:
    del parts[at]


def _repeat(
    parts: list[Part], at: int, _others: Sequence[Part], _grammar: Grammar, rng: random.Random
) -> None:
    times = rng.choice((1, 1, 2, 50, 1000))
    times = max(1, min(times, MAX_REPEATED_BYTES // (parts[at].size + 8)))
    parts[at:at] = [parts[at].copy() for _ in range(times)]


def _swap(
    parts: list[Part], at: int, _others: Sequence[Part], _grammar: Grammar, rng: random.Random
) -> None:
    other = rng.randrange(len(parts))
    parts[at], parts[other] = parts[other], parts[at]


def _copy_from_another_file(
    parts: list[Part], at: int, others: Sequence[Part], _grammar: Grammar, rng: random.Random
) -> None:
    if others:
        parts.insert(at + rng.randrange(2), rng.choice(others).copy())


def _rename(
    parts: list[Part], at: int, others: Sequence[Part], grammar: Grammar, rng: random.Random
) -> None:
    parts[at].name = rng.choice([*grammar.fields, *(each.name for each in (*parts, *others))])


def _nest(
    parts: list[Part], at: int, _others: Sequence[Part], _grammar: Grammar, rng: random.Random
) -> None:
    rng.choice(parts).children.append(parts[at].copy())


def _misstate_length(
    parts: list[Part], at: int, _others: Sequence[Part], _grammar: Grammar, rng: random.Random
) -> None:
    parts[at].length = another_number(parts[at].size, 4, rng)


type Damage = Callable[[list[Part], int, Sequence[Part], Grammar, random.Random], None]
DAMAGES: Final[tuple[Damage, ...]] = (
    *(_change_field,) * 6,
    *(_change_body,) * 3,
    _drop,
    _repeat,
    _swap,
    _copy_from_another_file,
    _rename,
    _nest,
    _misstate_length,
)
"""Repeated ones are drawn more often."""


def flattened(parts: Sequence[Part]) -> list[Part]:
    """List the parts, their children, the children of these and so on."""
    return [each for part in parts for each in (part, *flattened(part.children))]
