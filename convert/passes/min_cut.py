"""Choose a label for each of many items so that few neighbours differ, by minimum cuts.

The energy is the sum of what each item pays for its label, and of a weight for each group whose
members do not all have the same label. Sources: Boykov, Veksler and Zabih 2001, Fast Approximate
Energy Minimization via Graph Cuts, for the expansion moves, which are exact for two labels; Kohli,
Kumar and Torr 2007, P3 & Beyond, for groups of more than two; Dinic 1970 for the maximum flow.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_ROUNDS = 4  # expansion moves converge in two or three


@dataclass(frozen=True, slots=True)
class Energy:
    """What a labelling costs.

    Attributes:
        unary: For each item the cost of each label.
        groups: Numbers of items that had better agree, and the cost if they do not.
    """

    unary: Sequence[Sequence[float]]
    groups: Sequence[tuple[Sequence[int], float]]

    def of(self, labels: Sequence[int]) -> float:
        """Return the cost of a labelling."""
        single = sum(costs[label] for costs, label in zip(self.unary, labels, strict=True))
        return single + sum(
            weight for items, weight in self.groups if len({labels[item] for item in items}) > 1
        )


def minimise(energy: Energy, start: Sequence[int]) -> list[int]:
    """Return a labelling that no expansion of a single label improves.

    Args:
        energy: The costs.
        start: The first labelling; the result costs at most as much.
    """
    best, cost = list(start), energy.of(start)
    count = len(energy.unary[0]) if energy.unary else 0
    for _ in range(_ROUNDS):
        before = cost
        for label in range(count):
            labels = _expand(energy, best, label)
            found = energy.of(labels)
            if found < cost:
                best, cost = labels, found
        if cost == before:
            break
    return best


def _expand(energy: Energy, labels: Sequence[int], label: int) -> list[int]:
    """Let any items change to one label, as is cheapest; those behind the cut change."""
    items = len(labels)
    network = Network(items + 2 + 2 * len(energy.groups))
    source, sink = items, items + 1
    for item, costs in enumerate(energy.unary):
        network.join(source, item, costs[label])
        network.join(item, sink, math.inf if labels[item] == label else costs[labels[item]])
    for number, (members, weight) in enumerate(energy.groups):
        mixed = items + 2 + 2 * number
        network.join(mixed, sink, weight)
        for item in members:
            network.join(item, mixed, math.inf)
        if len({labels[item] for item in members}) == 1:
            network.join(source, mixed + 1, weight)
            for item in members:
                network.join(mixed + 1, item, math.inf)
    kept = network.near_side(source, sink)
    return [now if item in kept else label for item, now in enumerate(labels)]


class Network:
    """Nodes joined by edges of limited capacity."""

    def __init__(self, nodes: int) -> None:
        self._edges: list[list[int]] = [[] for _ in range(nodes)]
        self._ends: list[int] = []
        self._left: list[float] = []

    def join(self, start: int, end: int, capacity: float) -> None:
        """Add an edge."""
        for tail, head, room in ((start, end, capacity), (end, start, 0.0)):
            self._edges[tail].append(len(self._ends))
            self._ends.append(head)
            self._left.append(room)

    def near_side(self, source: int, sink: int) -> frozenset[int]:
        """Return the nodes on the source's side of a minimum cut."""
        while (levels := self._levels(source)) and levels[sink] >= 0:
            edges = [iter(edges) for edges in self._edges]
            while self._push(source, sink, levels, edges):
                pass
        levels = self._levels(source)
        return frozenset(node for node, level in enumerate(levels) if level >= 0)

    def _levels(self, source: int) -> list[int]:
        levels = [-1] * len(self._edges)
        levels[source] = 0
        queue = deque([source])
        while queue:
            node = queue.popleft()
            for edge in self._edges[node]:
                end = self._ends[edge]
                if self._left[edge] > 0 and levels[end] < 0:
                    levels[end] = levels[node] + 1
                    queue.append(end)
        return levels

    def _push(self, source: int, sink: int, levels: list[int], edges: list[Iterator[int]]) -> bool:
        """Send what fits along one shortest way; tell whether there was one."""
        path: list[int] = []
        node = source
        while node != sink:
            edge = next(edges[node], None)
            if edge is None:
                if not path:
                    return False
                levels[node] = -1
                node = self._ends[path.pop() ^ 1]
            elif self._left[edge] > 0 and levels[self._ends[edge]] == levels[node] + 1:
                path.append(edge)
                node = self._ends[edge]
        room = min(self._left[edge] for edge in path)
        for edge in path:
            self._left[edge] -= room
            self._left[edge ^ 1] += room
        return True
