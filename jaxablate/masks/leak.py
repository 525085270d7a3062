"""The static leak guard: can a position's prediction depend on its own target, by the mask alone?

Row i is supervised with the token in slot t(i). Its logits can depend on that token exactly when
slot t(i) is reachable from i through attention and the residual stream, the layers' masks applied
from the top down. For generic weights this is the true dependence.

1. *Certificate.* Give every slot the time at which inference computes it. If no slot sees a later
   one, nothing later is reachable at any depth; targets later than their rows are safe. O(T).
2. *Exact.* What the certificate leaves open is decided by reachability on row intervals.

A static answer knows nothing of rules outside the mask, nor of a kernel that breaks it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxablate.core.errors import UserError
from jaxablate.core.slots import Role, Slots
from jaxablate.masks.algebra import Mask, Or
from jaxablate.masks.atoms import Heads
from jaxablate.masks.intervals import RowIntervals, expand, row_intervals
from jaxablate.masks.reach import hulls, largest_in, reaches, shortest_path

_SLOTS_AT_ONCE = 2**19


class LeakReport(NamedTuple):
    """The verdict. If it leaks, the other fields describe the first leaking position."""

    leaks: bool
    reason: str
    row: int | None = None
    query: int | None = None  # slot whose prediction leaks
    role: str | None = None  # its role
    target: int | None = None  # slot that holds its target
    depth: int | None = None  # fewest attention layers that the leak needs
    path: tuple[int, ...] = ()  # slots from query to target
    count_by_role: dict[str, int] | None = None  # leaking positions of that row

    def sentence(self) -> str:
        """What a user is told.

        >>> LeakReport(True, "", 0, 4, "prompt", 5, 2, (4, 7, 5), {"prompt": 1}).sentence()[:49]
        'position 4 (prompt) can see its own target, slot '
        """
        if not self.leaks:
            return f"no position can see its own target ({self.reason})"
        way = " -> ".join(map(str, self.path))
        layers = f"{self.depth} layer{'s' * (self.depth != 1)}"
        counts = ", ".join(f"{n} {role}" for role, n in (self.count_by_role or {}).items())
        one = sum((self.count_by_role or {}).values()) == 1
        return (
            f"position {self.query} ({self.role}) can see its own target, slot {self.target}, "
            f"through slots {way} in {layers}; {counts} position{'s' * (not one)} of row "
            f"{self.row} leak{'s' * one}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return {**self._asdict(), "path": list(self.path)}


class LeakError(UserError):
    """A mask under which scores or losses would be meaningless."""

    def __init__(self, report: LeakReport):
        self.report = report
        super().__init__(f"the mask leaks: {report.sentence()}; allow_leaky runs it all the same")


def require_no_leak(
    masks: Sequence[Mask],
    slots: Slots,
    targets: Int[np.ndarray, "B T"],
    *,
    allow_leaky: bool = False,
    order: Int[np.ndarray, "B T"] | None = None,
    num_heads: int | None = None,
) -> LeakReport:
    """The report of `leak_report`; raises `LeakError` if it leaks, unless `allow_leaky`."""
    report = leak_report(masks, slots, targets, order=order, num_heads=num_heads)
    if report.leaks and not allow_leaky:
        raise LeakError(report)
    return report


def leak_report(
    masks: Sequence[Mask],
    slots: Slots,
    targets: Int[np.ndarray, "B T"],
    *,
    order: Int[np.ndarray, "B T"] | None = None,
    num_heads: int | None = None,
) -> LeakReport:
    """Whether any supervised position can see its own target.

    Args:
        masks: one a layer, bottom first; heads are joined, a leak through one is a leak.
        slots: numpy slots of the rows as they are trained or scored.
        targets: slot of the same row whose token is the target; -1 where nothing is supervised.
        order: when inference computes each slot. Default: prompt, latent and gist slots at once,
            then responses by position; where that proves nothing, all slots by position.
        num_heads: heads of the model; without it heads that no `heads()` names exist as well.
    """
    _check_targets(slots, targets)
    size = max(1, _SLOTS_AT_ONCE // max(1, targets.shape[1]))
    report = LeakReport(False, "nothing is supervised")
    rules = [join_heads(mask, layer, num_heads) for layer, mask in enumerate(masks)]
    for begin in range(0, len(targets), size):
        rows = slice(begin, begin + size)
        part = slots.map(lambda field, rows=rows: np.asarray(field)[rows])
        orders = [order[rows]] if order is not None else [default_order(part), part.position]
        report = _decide(rules, part, targets[rows], orders)
        if report.leaks:
            return report._replace(row=begin + (report.row or 0))
    return report


def default_order(slots: Slots) -> Int[np.ndarray, "B T"]:
    """When generation computes each slot: 0 if it is given, later responses later."""
    return np.where(slots.role == Role.RESPONSE, slots.position + 1, 0)


def _decide(
    rules: Sequence[Mask], slots: Slots, targets: np.ndarray, orders: Sequence[np.ndarray]
) -> LeakReport:
    distinct = {rule: row_intervals(rule, slots, slots) for rule in dict.fromkeys(rules)}
    open_rows = (targets >= 0).any(axis=1)
    for order in orders:
        open_rows &= ~_certified(list(distinct.values()), targets, order)
    if not open_rows.any():
        return LeakReport(False, "no slot sees one that inference computes later")
    chosen = np.flatnonzero(open_rows)
    slots = slots.map(lambda field: field[chosen])
    distinct = {rule: _take_rows(found, chosen) for rule, found in distinct.items()}
    report = _exact([distinct[rule] for rule in rules], slots, targets[chosen])
    return report._replace(row=None if report.row is None else int(chosen[report.row]))


def _certified(
    layers: Sequence[RowIntervals], targets: np.ndarray, order: np.ndarray
) -> Bool[np.ndarray, " B"]:
    """Rows where no slot sees a later one, and every target is later than its position."""
    width = targets.shape[1]
    later = np.take_along_axis(order, np.maximum(targets, 0), axis=1) > order
    good = np.all(later | (targets < 0), axis=1)
    time = order.ravel()
    for rows in layers:
        offset = rows.query // width * width
        latest = largest_in(time, rows.start + offset, rows.end + offset, width)
        good[rows.query[latest > time[rows.query]] // width] = False
    return good


def _exact(layers: Sequence[RowIntervals], slots: Slots, targets: np.ndarray) -> LeakReport:
    """Reachability: by hulls for all rows at once, slot by slot where a hull may be too wide."""
    width = targets.shape[1]
    low, high, exact = hulls(layers)
    start = np.arange(targets.size) // width * width
    target = targets.ravel() + start
    suspect = ((targets.ravel() >= 0) & (low <= target) & (target <= high)).reshape(targets.shape)
    for row in np.flatnonzero(suspect.any(axis=1)):
        alone = {id(x): _take_rows(x, np.array([row])) for x in layers}
        one = [alone[id(x)] for x in layers]
        query = np.flatnonzero(suspect[row])
        if not exact[row]:
            query = query[reaches(one, query, targets[row, query])]
        if len(query):
            return _describe(one, slots.role[row], targets[row], query)._replace(row=int(row))
    return LeakReport(False, f"no target is reachable in {len(layers)} layers")


def _describe(
    layers: Sequence[RowIntervals], role: np.ndarray, targets: np.ndarray, leaking: np.ndarray
) -> LeakReport:
    query, target = int(leaking[0]), int(targets[leaking[0]])
    path = shortest_path(layers, query, target)
    counts = Counter(Role(int(role[i])).name.lower() for i in leaking)
    return LeakReport(
        leaks=True,
        reason=f"a target is reachable in {len(layers)} layers",
        query=query,
        role=Role(int(role[query])).name.lower(),
        target=target,
        depth=len(path) - 1,
        path=path,
        count_by_role=dict(counts),
    )


def _take_rows(found: RowIntervals, rows: np.ndarray) -> RowIntervals:
    """The intervals of some rows, renumbered in that (ascending) order."""
    width = found.shape[1]
    first = np.searchsorted(found.query, rows * width)
    count = np.searchsorted(found.query, (rows + 1) * width) - first
    new_row, kept = expand(np.arange(len(rows)), first, count)
    query = found.query[kept] % width + new_row * width
    return RowIntervals(query, found.start[kept], found.end[kept], (len(rows), width))


def join_heads(mask: Mask, layer: int, num_heads: int | None) -> Mask:
    """The layer's mask with every key that at least one head sees."""
    edges = {0}
    for atom in mask.atoms():
        if isinstance(atom, Heads):
            edges |= {edge for first, last in atom.ranges for edge in (first, last + 1)}
    heads = [head for head in sorted(edges) if num_heads is None or head < num_heads]
    members = list(dict.fromkeys(mask.at(layer, head) for head in heads))
    return members[0] if len(members) == 1 else Or(tuple(members)).at(layer, 0)


def _check_targets(slots: Slots, targets: np.ndarray) -> None:
    if targets.shape != slots.role.shape:
        raise UserError(f"targets have the shape of slots {slots.role.shape}, got {targets.shape}")
    if targets.size and (targets.min() < -1 or targets.max() >= targets.shape[1]):
        found = f"{targets.min()}..{targets.max()} in rows of {targets.shape[1]}"
        raise UserError(f"targets are slots of their row, or -1, got {found}")
