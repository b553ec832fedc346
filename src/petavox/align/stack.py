"""Alignment of a stack of sections: rough chain, pyramid, joint solves, windows of sections.

What it is: the order of steps. Sections come as a `Source` that hands out images averaged down;
results are fields. What it is not: files, or the arithmetic (coarse, match, solve).

      rough      k ~ k+1, else k+2, k+3: rotation, flip, shift -> first transforms
      pyramid    for each level, coarse to fine: warp all sections by what is known, match
                 k with k+1, k+2 (and k+4 on all but the finest), solve all fields jointly
      windows    long stacks: `window` sections at a time, `margin` of them solved before and
                 held fixed; so memory and time per section stay the same
      landmarks  those of sections that shared no window are met at last: what is left of them is
                 spread over the sections between (landmarks, far_landmarks)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from petavox.align import chain, matching, solve, turns
from petavox.align.frames import Field, Lattice, extent
from petavox.align.landmarks import meet
from petavox.align.matching import Matcher, Round, Source
from petavox.align.order import suggested_order
from petavox.align.stack_result import Pair, Result
from petavox.align.stack_settings import AlignSettings
from petavox.align.thumbnails import thumb_factor

__all__ = ["AlignSettings", "Result", "align", "extent", "levels", "thumb_factor"]

Say = Callable[[str], None]


def align(
    source: Source,
    sections: Sequence[int],
    settings: AlignSettings,
    *,
    fixed: Mapping[int, Field] | None = None,
    springs: Callable[[int, Lattice], np.ndarray] | None = None,
    landmarks: Sequence[solve.Matches] = (),
    missing: Mapping[int, str] | None = None,
    device: str = "cpu",
    say: Say | None = None,
    done: Callable[[int], None] | None = None,
    run: Callable[..., Iterable[Any]] = map,
    matcher: Matcher | None = None,
) -> Result:
    """Fields of all `sections` (ascending numbers; gaps are bridged).

    fixed: sections solved before, held still.  springs: stiffness of a section's control grid
    (folds).  landmarks: extra matches, full pixels.  missing: sections not to be used -> cause.
    say: gets a line per failure.  done: gets the number of sections finished so far.
    run: like `map`; the map of a thread pool does sections and pairs at once.
    matcher: does the rounds of matching; default: here, with `run`.
    """
    say = say or (lambda line: None)
    result = Result(failures=dict(missing or {}))
    result.fields.update(fixed or {})
    order = [k for k in sections if k not in result.failures]
    # who names a section missing knows what becomes of its landmarks
    landmarks = [m for m in landmarks if not {m.a, m.b} & result.failures.keys()]
    if all(k in result.fields for k in order):
        return result
    rough = chain.chain_up(
        source,
        order,
        result.fields,
        thumbnail_px=settings.thumbnail_px,
        narrow=settings.narrow_degrees,
        landmarks=landmarks,
        near=settings.margin,
        device=device,
        say=say,
        run=run,
    )
    result.failures |= rough.failures
    result.notes += rough.notes
    result.breaks += rough.breaks
    work = _Work(
        source,
        settings,
        result,
        rough.runs,
        springs,
        landmarks,
        say,
        run,
        matcher or (lambda of: matching.matched(source, of, of.group, device=device, run=run)),
    )
    step = max(settings.window - settings.margin, 1)
    usable = [k for k in order if k in rough.fields]
    for start in range(0, max(len(usable) - settings.margin, 1), step):
        group = usable[start : start + settings.window]
        if any(k not in result.fields for k in group):
            held = {k: result.fields[k] for k in group if k in result.fields}
            # where all of the margin failed, the last one solved before it
            last = [k for k in usable[:start] if k in result.fields][-1:]
            solved = held or {k: result.fields[k] for k in last}
            placed = chain.carried(rough.fields, solved, group, source.shape)
            work.window(f"{start // step:05d}", group, held, placed)
        if done is not None:
            done(len([k for k in usable if k in result.fields]))
    meet(
        result,
        rough,
        landmarks,
        solved=work.solved,
        fixed=fixed or {},
        shape=source.shape,
        say=say,
    )
    done_with = [k for k in usable if k in result.fields]
    result.order = suggested_order(source, done_with, result.fields, settings.thumbnail_px, device)
    if result.order:
        moved = [k for k, j in zip(done_with, result.order, strict=True) if k != j]
        say(f"sections {', '.join(map(str, moved))} seem to be in the WRONG ORDER.")
    return result


def levels(shape: tuple[int, int], settings: AlignSettings) -> list[int]:
    """Downsampling factors, coarse to fine, for sections of at most `shape`."""
    finest = settings.finest or (1 if min(shape) < 1000 else 2 if min(shape) < 2000 else 4)
    factor = finest
    out = [finest]
    while min(shape) / factor > 3.5 * settings.window_px and len(out) < 12:
        factor *= 2
        out.insert(0, factor)
    return out


@dataclass
class _Work:
    """What the windows of one run share."""

    source: Source
    settings: AlignSettings
    result: Result
    runs: Mapping[int, int]
    springs: Callable[[int, Lattice], np.ndarray] | None
    landmarks: Sequence[solve.Matches]
    say: Say
    run: Callable[..., Iterable[Any]]
    matcher: Matcher
    solved: set[tuple[int, int]] = field(default_factory=set)  # whose landmarks were in a window

    def window(
        self,
        name: str,
        group: Sequence[int],
        held: Mapping[int, Field],
        placed: Mapping[int, Field],
    ) -> None:
        """Solve the free sections of one window and put their fields into the result.

        placed: where the free ones are to begin.
        """
        settings = self.settings
        free = [k for k in group if k not in held]
        shapes = {k: self.source.shape(k) for k in group}
        largest = np.max(list(shapes.values()), axis=0)
        fields: dict[int, Field] = {k: held.get(k, placed[k]) for k in group}
        steps = levels((int(largest[0]), int(largest[1])), settings)
        extra = [m for m in self.landmarks if m.a in fields and m.b in fields]
        self.solved |= {(m.a, m.b) for m in extra if not (m.a in held and m.b in held)}
        for turn, factor in enumerate(steps + [steps[-1]] * (settings.passes - 1)):
            finest = factor == steps[-1]
            # coarse levels see only what is large: stiffer and more forgiving there
            ratio = max(factor / steps[-1], 1.0)
            own = max(settings.smooth_px, settings.jerk_px)
            spacing = max(settings.spacing_px or 1.25 * own, 0.7 * own * ratio)
            pulls, low, high = _pulls(fields, shapes, spacing)
            size = _window_size(int(largest.min() / factor), settings.window_px)
            offsets = list(settings.offsets)
            if not finest or len(steps) == 1:
                offsets += [o for o in settings.far_offsets if o not in offsets]
            matched = self.matcher(
                Round(
                    name=f"{name}-{turn}",
                    group=tuple(group),
                    free=tuple(free),
                    runs=tuple(self.runs[k] for k in group),
                    pulls=pulls,
                    low=(float(low[0]), float(low[1])),
                    high=(float(high[0]), float(high[1])),
                    factor=factor,
                    size=size,
                    stride=max(4, round(settings.stride * size)),
                    search=size // 2 - 1 if turn == 0 else size // 4,
                    offsets=tuple(offsets),
                    batch=settings.batch,
                    least=settings.least_trust,
                    textured=settings.texture and finest,
                )
            )
            matched = matching.weighed(matched)
            lattices = {
                k: Lattice.covering((0, 0), np.asarray(shapes[k]) - 1, spacing) for k in free
            }
            tolerance = settings.tolerance_px * ratio**0.5
            base: dict[int, Field] = {k: fields[k] for k in free}
            if turn:
                # the weak slope term holds a section to the turn of its base: that of the rough
                # placing has errors that add up along the stack
                base = turns.turned(
                    {k: chain.rigid(fields[k], shapes[k]) for k in free},
                    matched,
                    held,
                    {k: np.asarray(shapes[k], float) / 2 for k in free},
                    tolerance,
                )
            solved = solve.relax(
                base,
                lattices,
                matched + extra,
                solve.Stiffness(
                    smooth=settings.smooth_px * ratio,
                    slope=settings.slope_px,
                    jerk=settings.jerk_px * ratio,
                    tolerance=tolerance,
                    rounds=settings.rounds,
                ),
                fixed=held,
                springs=self.springs and {k: self.springs(k, lattices[k]) for k in free},
                run=self.run,
            )
            last = turn == len(steps) + settings.passes - 2
            # what folds over now may come right at the next level
            fields.update(
                {k: f if f.is_sound or last else base[k] for k, f in solved.fields.items()}
            )
        for m, r, left in zip(matched, solved.residuals, solved.inliers, strict=False):
            self._judge(replace(m, inlier=left), r)
        runs = Counter(self.runs[k] for k in group)
        for k in free:
            # the first of a run may be the last of a window: what it fits is in the next
            self._accept(k, fields[k], alone=runs[self.runs[k]] == 1)

    def _judge(self, m: solve.Matches, residual: np.ndarray) -> None:
        """Record a pair after the last round."""
        believed = m.inlier > 0.25
        share = (
            float(np.sum(m.weight * m.inlier) / max(np.sum(m.weight), 1e-9)) if len(m.p) else 0.0
        )
        typical = float(np.median(residual[believed])) if believed.any() else float("nan")
        cause = ""
        if len(m.p) < 4:
            cause = f"only {len(m.p)} windows match"
        elif share < self.settings.least_inliers:
            cause = f"only {100 * share:.0f} % of the matches agree with the neighbours"
        if cause and m.b - m.a == 1:
            self.say(f"sections {m.a} and {m.b} FAILED to match: {cause}.")
        self.result.pairs.append(Pair(m.a, m.b, len(m.p), share, typical, cause))

    def _accept(self, k: int, f: Field, *, alone: bool) -> None:
        """Put a field into the result, or say why not."""
        result, cause = self.result, ""
        if not f.is_sound:
            cause = f"its field folds over (smallest cell {f.jacobian().min():.2f} of its area)"
        elif not alone and not any(k in (p.a, p.b) and not p.failed for p in result.pairs):
            cause = "no neighbour matches it"
        if cause:
            result.failures[k] = cause
            self.say(f"section {k} FAILED: {cause}.")
        else:
            result.failures.pop(k, None)  # of the window before, at whose end it lay
            result.fields[k] = f


def _window_size(shortest: int, wanted: int) -> int:
    """The window for a level whose shortest side is `shortest` pixels: a multiple of 16, or 8."""
    fit = min(wanted, max(shortest // 3, 24))
    return max(16, fit // 16 * 16)


def _pulls(
    fields: Mapping[int, Field], shapes: Mapping[int, tuple[int, int]], spacing: float
) -> tuple[dict[int, Field], np.ndarray, np.ndarray]:
    """Inverse fields, common -> section, and the hull of all sections in the common frame."""
    lows, highs, pulls = [], [], {}
    for k, f in fields.items():
        low, high = extent(f, shapes[k])
        lows.append(low)
        highs.append(high)
        pulls[k] = f.inverse(Lattice.covering(low, high, spacing))
    return pulls, np.min(lows, axis=0), np.max(highs, axis=0)
