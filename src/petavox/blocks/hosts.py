"""Machines on which blocks only go wrong: one broken device must not end a run on a thousand nodes.

What it is: who is to blame, the block or its machine, from what went wrong and well in which order.
What it is not: the holding back of a machine (the engine), or the counts of a block (trouble).

A machine that fails at once takes the most blocks, for it is always the first to be free. So:

    blocks in a row go wrong on a machine     nothing more is sent there; they are tried elsewhere
    one of them goes wrong elsewhere too      the block is to blame
    a twentieth of all machines is held back  it is not the machines; blocks are to blame from there
"""

from __future__ import annotations

from collections.abc import Callable

_SHARE = 20


class Hosts:
    """What went wrong and well, by host.

    avoid: sends nothing more to a host; False if it cannot, or no other is there.
    limit: blocks in a row, with none done in between.
    """

    def __init__(self, avoid: Callable[[str], bool], limit: int) -> None:
        self._avoid, self._limit = avoid, limit
        self._wrong: dict[str, list[int]] = {}
        self._seen: set[str] = set()
        self._moved: set[int] = set()
        self.avoided: set[str] = set()
        self._held: set[str] = set()
        """Hosts that were ever held back: the engine lets none go again."""

    def well(self, host: str) -> None:
        """A block was done there."""
        self._seen.add(host)
        self._wrong.pop(host, None)
        self.avoided.discard(host)

    def wrong(self, host: str, number: int) -> list[int]:
        """A block went wrong there; gives those to try elsewhere, none if the block is to blame."""
        if not host or number in self._moved:
            return []
        self._seen.add(host)
        if host in self.avoided:
            self._avoid(host)  # it may have come again, with another job
            self._moved.add(number)
            return [number]
        row = self._wrong.setdefault(host, [])
        row.append(number)
        full = host not in self._held and len(self._held) >= max(1, len(self._seen) // _SHARE)
        if len(row) < self._limit or full or not self._avoid(host):
            return []
        self.avoided.add(host)
        self._held.add(host)
        self._moved.update(row)
        return list(dict.fromkeys(self._wrong.pop(host)))
