"""What becomes of landmarks once a stack is solved: far ones are met, and all are told of.

What it is: the last step of petavox.align.stack. Which landmarks can be used, what is left of each,
and which breaks of the stack they joined. What it is not: the arithmetic (far_landmarks).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from petavox.align import far_landmarks
from petavox.align.chain import BY_HAND, Chain, joined
from petavox.align.solve import Matches
from petavox.align.stack_result import Landmarks, Result

LANDMARK_PX = 3.0
"""Mean distance from which landmarks that a person set are told as not met."""


def meet(
    result: Result,
    rough: Chain,
    landmarks: Sequence[Matches],
    *,
    solved: Collection[tuple[int, int]],
    fixed: Collection[int],
    shape: Callable[[int], tuple[int, int]],
    say: Callable[[str], None],
) -> None:
    """Move sections so that landmarks of no window meet; tell how far apart all of them lie.

    solved: pairs whose landmarks were in a window.  fixed: sections that stay.
    """
    used, lost = [], set[int]()
    for m in landmarks:
        without = [k for k in (m.a, m.b) if k not in result.fields]
        if without:
            names = " and ".join(map(str, without))
            say(f"the landmarks of sections {m.a} and {m.b} are NOT used: {names} was not aligned.")
            lost |= {m.a, m.b}
        else:
            used.append(m)
    free = [m for m in used if not (m.a in fixed and m.b in fixed)]
    far = [m for m in free if (m.a, m.b) not in solved]
    near = [m for m in free if (m.a, m.b) in solved]
    matched = {(p.a, p.b) for p in result.pairs if not p.failed}
    result.fields = far_landmarks.met(result.fields, far, matched, fixed, shape, near)
    for m in used:
        left = far_landmarks.residual(result.fields, m)
        apart = (m.a, m.b) not in solved
        result.landmarks.append(Landmarks(m.a, m.b, len(m.p), left, apart))
        if left > LANDMARK_PX:
            say(
                f"the landmarks of sections {m.a} and {m.b} are NOT met: they lie {left:.1f} "
                "px apart on average; see whether each is the same place in both."
            )
    _tell_breaks(result, rough, used, lost, matched, say)


def _tell_breaks(
    result: Result,
    rough: Chain,
    used: Sequence[Matches],
    lost: Collection[int],
    matched: Collection[tuple[int, int]],
    say: Callable[[str], None],
) -> None:
    """Take back the breaks that landmarks joined; add those where they were to, and could not.

    lost: sections of landmarks that were not used.
    """
    for k in [k for k in rough.breaks if joined(rough.runs, rough.runs[k], used)]:
        result.breaks.remove(k)
        say(f"landmarks join the run that begins at section {k} to the ones before.")
    for k, other in rough.by_hand.items():
        points = sum(len(m.p) for m in used if _across(k, other, (m.a, m.b)))
        linked = points >= BY_HAND or any(_across(k, other, pair) for pair in matched)
        beside = any(_across(k, other, (j, k)) for j in result.fields)
        if k in lost and k in result.fields and beside and not linked:
            result.breaks = sorted({*result.breaks, k})
            say(
                f"a NEW RUN begins at section {k}: the landmarks that placed it are of sections "
                f"that were not aligned, and none on the side of section {other} matches."
            )


def _across(k: int, other: int, pair: tuple[int, int]) -> bool:
    """Does a pair of sections reach across the gap beside k, on the side of the other section?"""
    a, b = min(pair), max(pair)
    return a < k <= b if other < k else a <= k < b
