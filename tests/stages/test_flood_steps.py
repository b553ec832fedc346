"""What a block of a flood tells of itself while it runs."""

import numpy as np
from scipy import ndimage

from petavox.ffn.batched import LockStep
from petavox.ffn.flood import SeedSettings, prepared
from petavox.ffn.growth import FloodSettings
from petavox.ffn.predictor import Predictor
from petavox.stages.flood_steps import Steps
from petavox.stages.flood_watch import settled
from tests.ffn.brightness import brightness_model

TINY = brightness_model(deltas=(3, 3, 3))


def canvases(n):
    predictor, made = Predictor(TINY), []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        smooth = ndimage.gaussian_filter(rng.normal(size=(21, 21, 21)), 2.2)
        grey = 128 + 40 * np.sign(smooth - 0.5 * smooth.std()) + 20 * rng.normal(size=(21, 21, 21))
        made.append(
            prepared(
                grey.clip(0, 255).astype(np.uint8),
                predictor,
                TINY.spec,
                voxel_size=(8, 8, 8),
                settings=FloodSettings(min_segment_size=60, max_object_share=1),
                seeds=SeedSettings(policy="grid", spacing=(6, 6, 6)),
            )
        )
    return made, predictor


def test_shares_of_blocks_one_after_another_rise_to_the_whole():
    made, _ = canvases(2)
    told = []
    steps = Steps(lambda share, words: told.append((share, words)), 2, every=0)
    for canvas in made:
        canvas.segment_all(steps)
    shares = [share for share, _ in told]
    assert all(0 <= share <= 1 for share in shares)
    assert shares == sorted(shares)
    assert min(shares) < 0.5 < max(shares)
    assert told[-1][1].startswith(f"{sum(c.counters['fovs'] for c in made):,} FOVs")


def test_lanes_tell_the_share_of_all():
    made, predictor = canvases(2)
    told = []
    steps = Steps(lambda share, words: told.append(share), 2, every=0)
    driver = LockStep(made, predictor)
    driver.run(steps.together)
    assert told == sorted(told)
    assert len(told) >= driver.rounds
    whole = sum(len(c.seeds) for c in made)
    assert driver.settled() == sum(map(settled, made)) / whole


def test_nothing_is_looked_at_more_often_than_asked():
    made, _ = canvases(1)
    told = []
    made[0].segment_all(Steps(lambda *a: told.append(a), 1, every=1e9))
    assert told == []
