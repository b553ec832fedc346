"""Alignment of a stack of sections: rough chain, pyramid, joint solves, windows of sections.

What it is: the order of steps. Sections come as a `Source` that hands out images averaged down;
results are fields. What it is not: files, or the arithmetic (coarse, match, solve).

      rough      k ~ k+1, else k+2, k+3: rotation, flip, shift -> first transforms
      pyramid    for each level, coarse to fine: warp all sections by what is known, match
                 k with k+1, k+2 (and k+4 on all but the finest), solve all fields jointly
      windows    long stacks: `window` sections at a time, `margin` of them solved before and
                 held fixed; so memory and time per section stay the same
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from petavox.align import coarse, match, solve
from petavox.align.frames import Field, Lattice
from petavox.errors import BadInput
from petavox.settings import Settings

Say = Callable[[str], None]


class Source(Protocol):
    """Sections by number; full-resolution shape, and images averaged down."""

    def shape(self, k: int) -> tuple[int, int]:
        """Pixels (h, w) of section k."""
        ...

    def level(self, k: int, factor: int) -> tuple[np.ndarray, np.ndarray]:
        """Section k averaged down by `factor`: image (h, w) and where matches may lie (bool)."""
        ...

    def texture(self, k: int, factor: int) -> np.ndarray:
        """The texture channel of section k at that level (petavox.align.texture), (h, w)."""
        ...


class AlignSettings(Settings):
    """How sections are aligned; lengths in pixels of the full image unless the name says nm."""

    window_px: int = 96
    """Side of the matching windows, pixels of the level; larger is more precise, less local."""
    texture: bool = True
    """Also match the fine texture between outlines, weighed by how far it persists."""
    stride: float = 0.34
    """Distance of windows, in sides of a window."""
    finest: int = 0
    """Finest level, as a downsampling factor; 0 chooses 1, 2 or 4 (from 1,000 and 2,000 px on)."""
    thumbnail_px: int = 192
    """Longest side of the thumbnails of the rough alignment."""
    spacing_px: float = 0.0
    """Distance of control points; 0: a quarter more than the longer of `smooth_px`, `jerk_px`."""
    smooth_px: float = 30.0
    """Resistance to bending; what varies over less than three times this is taken for noise."""
    slope_px: float = 12.0
    """Weak resistance to stretch and shear; keeps long stacks from drifting in scale."""
    jerk_px: float = 62.0
    """Resistance to changes of bending: cuts off more sharply at about three times this length."""
    tolerance_px: float = 9.0
    """Residual at which a match has lost three quarters of its weight."""
    rounds: int = 4
    """Rounds of reweighting."""
    passes: int = 2
    """Times the finest level is matched."""
    offsets: tuple[int, ...] = (1, 2)
    """Which neighbours are matched at all levels."""
    far_offsets: tuple[int, ...] = (4,)
    """Which are matched at all but the finest level."""
    narrow_degrees: float = 12.0
    """Rotation searched first; all round if nothing is found."""
    least_inliers: float = 0.2
    """Share of believed matches below which a pair counts as failed."""
    least_trust: float = 0.12
    """Confidence below which a window gives no match."""
    window: int = 64
    """Sections solved jointly."""
    margin: int = 12
    """Sections of the window before that are held fixed."""
    batch: int = 1024
    """Windows of a section held at once; bounds memory."""


@dataclass(frozen=True)
class Pair:
    """What is known of a pair of sections after the last level."""

    a: int
    b: int
    matches: int
    inliers: float
    residual_px: float
    failed: str = ""


@dataclass
class Result:
    """Fields section -> volume (full pixels), what happened to pairs, and who failed and why.

    order: the order of sections that their likeness suggests, where it is not the given one.
    """

    fields: dict[int, Field] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    rough: dict[tuple[int, int], coarse.Rough] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    order: list[int] = field(default_factory=list)


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
) -> Result:
    """Fields of all `sections` (ascending numbers; gaps are bridged).

    fixed: sections solved before, held still.  springs: stiffness of a section's control grid
    (folds).  landmarks: extra matches, full pixels.  missing: sections not to be used -> cause.
    say: gets a line per failure.  done: gets the number of sections finished so far.
    run: like `map`; the map of a thread pool does pairs at once.
    """
    say = say or (lambda line: None)
    result = Result(failures=dict(missing or {}))
    result.fields.update(fixed or {})
    order = [k for k in sections if k not in result.failures]
    todo = [k for k in order if k not in result.fields]
    if not todo:
        return result
    chain = _chain(source, order, result, settings, device, say)
    step = max(settings.window - settings.margin, 1)
    usable = [k for k in order if k in chain]
    for start in range(0, max(len(usable) - settings.margin, 1), step):
        group = usable[start : start + settings.window]
        free = [k for k in group if k not in result.fields]
        if free:
            held = {k: result.fields[k] for k in group if k in result.fields}
            if held:
                _continue(chain, held, group, {k: source.shape(k) for k in group})
            _window(
                source,
                group,
                free,
                held,
                chain,
                result,
                settings,
                springs,
                landmarks,
                device,
                say,
                run,
            )
        if done is not None:
            done(len([k for k in usable if k in result.fields]))
    result.order = _suggested_order(source, usable, result, settings, device)
    if result.order:
        moved = [k for k, j in zip(usable, result.order, strict=True) if k != j]
        say(f"sections {', '.join(map(str, moved))} seem to be in the WRONG ORDER.")
    return result


def _suggested_order(
    source: Source, usable: Sequence[int], result: Result, settings: AlignSettings, device: str
) -> list[int]:
    """The order of sections by likeness after alignment, or [] if the given one is as good.

    Neighbours are more alike than sections farther apart. Every pair up to three apart is
    compared as thumbnails; moving one section or reversing a run of two or three is tried until
    nothing raises the sum of the neighbours' correlations by more than its own noise.
    """
    known = [k for k in usable if k in result.fields]
    if len(known) < 4:
        return []
    shape = source.shape(known[0])
    factor = thumb_factor(shape, 2 * settings.thumbnail_px)
    views: dict[int, tuple[Any, Any]] = {}
    like: dict[tuple[int, int], float] = {}
    for i, k in enumerate(known):
        f = result.fields[k]
        low, high = extent(f, source.shape(k))
        pull = f.inverse(Lattice.covering(low, high, max(shape) / 12))
        image, valid = source.level(k, factor)
        size = (int(shape[0] // factor), int(shape[1] // factor))
        views[k] = match.warped(image, valid, pull, (0, 0), size, factor, device)
        for j in known[max(0, i - 4) : i]:
            map_ = match.patch_correlation(views[j], views[k], max(16, min(size) // 6), 1.0)
            good = map_[np.isfinite(map_)]
            like[j, k] = float(good.mean()) if len(good) else 0.0
        for old in known[: max(0, i - 4)]:
            views.pop(old, None)

    def gain(order: Sequence[int]) -> float:
        # what is not measured (five apart or more) is as unlike as the least like measured
        floor = min(like.values())
        return sum(like.get((min(a, b), max(a, b)), floor) for a, b in itertools.pairwise(order))

    order = list(known)
    noise = 0.25 * float(np.std([like[a, b] for a, b in itertools.pairwise(known)])) + 0.02
    for _ in range(len(known)):
        best, best_gain = order, gain(order) + noise
        for i in range(len(order)):
            for n in (2, 3, 4):
                if i + n > len(order):
                    continue
                run = order[i : i + n]
                for new in (run[::-1], run[1:] + run[:1], run[-1:] + run[:-1]):
                    tried = order[:i] + new + order[i + n :]
                    # only the run and its rims change
                    value = gain(order) + (
                        gain(tried[max(0, i - 1) : i + n + 1])
                        - gain(order[max(0, i - 1) : i + n + 1])
                    )
                    if value > best_gain + 1e-9:
                        best, best_gain = tried, value
        if best is order:
            break
        order = best
    if order == known:
        return []
    place = dict(zip(known, order, strict=True))
    return [place.get(k, k) for k in usable]


def thumb_factor(shape: tuple[int, int], longest: int) -> int:
    """The power of two that brings a section to at most `longest` pixels."""
    factor = 1
    while max(shape) / factor > longest:
        factor *= 2
    return factor


def _chain(
    source: Source,
    order: Sequence[int],
    result: Result,
    settings: AlignSettings,
    device: str,
    say: Say,
) -> dict[int, Field]:
    """Rough rigid transforms section -> common frame, from the pairs' thumbnails."""
    largest = tuple(np.max([source.shape(k) for k in order], axis=0))
    factor = thumb_factor((int(largest[0]), int(largest[1])), settings.thumbnail_px)
    thumbs: dict[int, coarse.Thumbnail] = {}

    def thumb(k: int) -> coarse.Thumbnail:
        if k not in thumbs:
            image, valid = source.level(k, factor)
            thumbs[k] = coarse.thumbnail(image, valid, factor, device=device)
            for old in [n for n in thumbs if n < k - 8]:
                del thumbs[old]
        return thumbs[k]

    chain: dict[int, Field] = {k: _rigid(f, source.shape(k)) for k, f in result.fields.items()}
    for i, k in enumerate(order):
        if k in chain:
            continue
        before = [j for j in order[:i] if j in chain][-3:][::-1]
        if not before:
            after = [j for j in order[i + 1 :] if j in chain][:3]
            before = after
        if not before:
            chain[k] = Field()
            continue
        best: coarse.Rough | None = None
        for j in before:
            found = coarse.rough(thumb(j), thumb(k), narrow=settings.narrow_degrees, device=device)
            result.rough[j, k] = found
            if best is None or found.trust > best.trust:
                best, base = found, j
            if found.found:
                break
            say(
                f"sections {j} and {k}: no rough alignment found (trust {found.trust:.2f}); "
                "trying the section before."
            )
        assert best is not None
        if not best.found:
            result.failures[k] = (
                f"no rough alignment to sections {', '.join(map(str, before))} "
                f"(best trust {best.trust:.2f})"
            )
            say(f"section {k} FAILED: {result.failures[k]}; it is left out and bridged.")
            continue
        back = np.linalg.inv(best.transform.matrix)
        inverse = Field.affine(back, -back @ best.transform.shift)
        m = chain[base].matrix @ inverse.matrix
        t = chain[base].matrix @ inverse.shift + chain[base].shift
        chain[k] = _rigid(Field.affine(m, t), source.shape(k))
        if best.flipped:
            note = f"section {k} is flipped relative to section {base}"
            result.notes.append(note)
            say(note)
        if abs((best.degrees + 180) % 360 - 180) > settings.narrow_degrees:
            note = (
                f"section {k} is rotated by {best.degrees:.1f} degrees relative to section {base}"
            )
            result.notes.append(note)
            say(note)
    return chain


def _rigid(f: Field, shape: tuple[int, int]) -> Field:
    """The rotation (or flip) and shift nearest to a field over a section (Procrustes)."""
    p = Lattice((0.0, 0.0), 1.0, (5, 5)).points / 4 * (np.asarray(shape, float) - 1)
    q = f(p)
    cp, cq = p.mean(0), q.mean(0)
    u, _, vt = np.linalg.svd((q - cq).T @ (p - cp))
    m = u @ vt
    return Field.affine(m, cq - m @ cp)


def _continue(
    chain: dict[int, Field],
    held: Mapping[int, Field],
    group: Sequence[int],
    shapes: Mapping[int, tuple[int, int]],
) -> None:
    """Carry what the held sections' solve changed over to the rough transforms after them."""
    last = max(held)
    solved, guess = _rigid(held[last], shapes[last]), chain[last]
    linear = solved.matrix @ np.linalg.inv(guess.matrix)
    shift = solved.shift - linear @ guess.shift
    for k in group:
        if k in held:
            chain[k] = _rigid(held[k], shapes[k])
        elif k > last:
            f = chain[k]
            chain[k] = Field.affine(linear @ f.matrix, linear @ f.shift + shift)


def levels(shape: tuple[int, int], settings: AlignSettings) -> list[int]:
    """Downsampling factors, coarse to fine, for sections of at most `shape`."""
    finest = settings.finest or (1 if min(shape) < 1000 else 2 if min(shape) < 2000 else 4)
    factor = finest
    out = [finest]
    while min(shape) / factor > 3.5 * settings.window_px and len(out) < 12:
        factor *= 2
        out.insert(0, factor)
    return out


def _window(
    source: Source,
    group: Sequence[int],
    free: Sequence[int],
    held: Mapping[int, Field],
    chain: Mapping[int, Field],
    result: Result,
    settings: AlignSettings,
    springs: Callable[[int, Lattice], np.ndarray] | None,
    landmarks: Sequence[solve.Matches],
    device: str,
    say: Say,
    run: Callable[..., Iterable[Any]],
) -> None:
    """Solve the free sections of one window and put their fields into the result."""
    shapes = {k: source.shape(k) for k in group}
    largest = np.max(list(shapes.values()), axis=0)
    fields: dict[int, Field] = {k: held.get(k, chain[k]) for k in group}
    steps = levels((int(largest[0]), int(largest[1])), settings)
    plan = [f for f in steps] + [steps[-1]] * (settings.passes - 1)
    matched: list[solve.Matches] = []
    for turn, factor in enumerate(plan):
        finest = factor == steps[-1]
        # coarse levels see only what is large: stiffer and more forgiving there
        ratio = factor / steps[-1]
        smooth = settings.smooth_px * max(ratio, 1.0)
        own = max(settings.smooth_px, settings.jerk_px)
        spacing = max(settings.spacing_px or 1.25 * own, 0.7 * own * ratio)
        pulls, low, high = _pulls(fields, shapes, spacing)
        size = _window_size(min(int(largest.min() / factor), 10**9), settings.window_px)
        stride = max(4, round(settings.stride * size))
        offsets = list(settings.offsets)
        if not finest or len(steps) == 1:
            offsets += [o for o in settings.far_offsets if o not in offsets]
        search = size // 2 - 1 if turn == 0 else size // 4
        pieces: dict[tuple[int, int], list[solve.Matches]] = {}
        for windows in match.windows_over(
            low, high, size=size, stride=stride, factor=factor, most=settings.batch
        ):
            for m in _matches(
                source,
                group,
                free,
                pulls,
                windows,
                offsets,
                search,
                settings,
                device,
                run,
                settings.texture and finest,
            ):
                pieces.setdefault((m.a, m.b), []).append(m)
        matched = _weighed([_joined(parts) for parts in pieces.values()])
        wanted = {*landmarks_of(landmarks, group)}
        extra = [m for m in landmarks if (m.a, m.b) in wanted]
        lattices = {k: Lattice.covering((0, 0), np.asarray(shapes[k]) - 1, spacing) for k in free}
        solved = solve.relax(
            {k: chain[k] for k in free},
            lattices,
            matched + extra,
            solve.Stiffness(
                smooth=smooth,
                slope=settings.slope_px,
                jerk=settings.jerk_px * max(ratio, 1.0),
                tolerance=settings.tolerance_px * max(ratio, 1.0) ** 0.5,
                rounds=settings.rounds,
            ),
            fixed=held,
            springs=None if springs is None else {k: springs(k, lattices[k]) for k in free},
        )
        fields.update(solved.fields)
        matched = [replace(m, inlier=w) for m, w in zip(matched, solved.inliers, strict=False)]
        residuals = solved.residuals
    for m, r in zip(matched, residuals, strict=False):
        believed = m.inlier > 0.25
        share = (
            float(np.sum(m.weight * m.inlier) / max(np.sum(m.weight), 1e-9)) if len(m.p) else 0.0
        )
        typical = float(np.median(r[believed])) if believed.any() else float("nan")
        cause = ""
        if len(m.p) < 4:
            cause = f"only {len(m.p)} windows match"
        elif share < settings.least_inliers:
            cause = f"only {100 * share:.0f} % of the matches agree with the neighbours"
        if cause and m.b - m.a == 1:
            say(f"sections {m.a} and {m.b} FAILED to match: {cause}.")
        result.pairs.append(Pair(m.a, m.b, len(m.p), share, typical, cause))
    for k in free:
        f = fields[k]
        linked = [p for p in result.pairs if k in (p.a, p.b) and not p.failed]
        if not f.is_sound:
            result.failures[k] = (
                f"its field folds over (smallest cell {f.jacobian().min():.2f} of its area)"
            )
        elif not linked and len(group) > 1:
            result.failures[k] = "no neighbour matches it"
        if k in result.failures:
            say(f"section {k} FAILED: {result.failures[k]}.")
        else:
            result.fields[k] = f


def landmarks_of(landmarks: Sequence[solve.Matches], group: Sequence[int]) -> list[tuple[int, int]]:
    """The pairs of a group that have landmarks."""
    inside = set(group)
    return [(m.a, m.b) for m in landmarks if m.a in inside and m.b in inside]


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


def extent(f: Field, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the box in the common frame that holds a section of `shape`."""
    y = np.linspace(0, shape[0] - 1, 17)
    x = np.linspace(0, shape[1] - 1, 17)
    p = f.on_grid(y, x).reshape(-1, 2)
    if not np.isfinite(p).all():
        raise BadInput("a section's field is not finite: its matches cannot be used.")
    return p.min(0), p.max(0)


def _matches(
    source: Source,
    group: Sequence[int],
    free: Sequence[int],
    pulls: Mapping[int, Field],
    windows: match.Windows,
    offsets: Sequence[int],
    search: int,
    settings: AlignSettings,
    device: str,
    run: Callable[..., Iterable[Any]],
    textured: bool = False,
) -> list[solve.Matches]:
    """Matches of all wanted pairs of a group on one set of windows; few sections held at once."""
    wanted = {k: _partners(group, k, offsets) for k in group}
    kept: dict[int, match.Spectra] = {}
    out: list[solve.Matches] = []
    moving = set(free)
    for i, k in enumerate(group):
        later = group[i + 1 :]
        if not (
            any(j in moving or k in moving for j in wanted[k])
            or any(k in wanted[n] and (n in moving or k in moving) for n in later)
        ):
            continue
        image, valid = source.level(k, windows.factor)
        grain = source.texture(k, windows.factor) if textured else None
        kept[k] = match.window_spectra(image, valid, pulls[k], windows, device, grain)

        def pair(j: int, k: int = k) -> solve.Matches:
            return match.compare(
                kept[j],
                kept[k],
                (pulls[j], pulls[k]),
                windows,
                (j, k),
                search=search,
                least=settings.least_trust,
            )

        out += run(pair, [j for j in wanted[k] if j in kept and (j in moving or k in moving)])
        for j in [j for j in kept if not any(j in wanted[n] for n in later)]:
            del kept[j]
    return out


def _partners(group: Sequence[int], k: int, offsets: Sequence[int]) -> list[int]:
    """Earlier sections to match with k: those at the offsets, and over a gap the next two."""
    present = [j for j in group if j < k]
    wanted = {k - o for o in offsets} & set(present)
    # over a missing section the nearest two that exist take its place
    wanted |= set(present[-min(2, len(offsets)) :])
    return sorted(wanted)


def _joined(parts: Sequence[solve.Matches]) -> solve.Matches:
    """One list of matches per pair."""
    m = parts[0]
    counts = np.array([max(len(p.p), 1e-9) for p in parts])
    return replace(
        m,
        p=np.concatenate([p.p for p in parts]),
        q=np.concatenate([p.q for p in parts]),
        weight=np.concatenate([p.weight for p in parts]),
        information=float(np.average([p.information for p in parts], weights=counts)),
    )


def _weighed(pairs: Sequence[solve.Matches]) -> list[solve.Matches]:
    """Weights times how much each pair tells about shifts, relative to the neighbours' median.

    Tissue itself differs the more, the farther two sections are apart; by how much, the
    coherence of the pair says. A pair of unknown coherence counts 1 / (2 x distance).
    """
    known = [m.information for m in pairs if m.information > 0 and len(m.p)]
    near = [m.information for m in pairs if m.b - m.a == 1 and m.information > 0 and len(m.p)]
    if not known:
        return [replace(m, weight=m.weight / _far(m)) for m in pairs]
    usual = float(np.median(near or known))
    return [
        replace(
            m,
            weight=m.weight
            * (np.clip(m.information / usual, 0.01, 2.0) if m.information > 0 else 1 / _far(m)),
        )
        for m in pairs
    ]


def _far(m: solve.Matches) -> float:
    away = abs(m.b - m.a)
    return 1.0 if away == 1 else 2.0 * away
