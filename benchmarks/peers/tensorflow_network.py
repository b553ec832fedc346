"""Runs in TensorFlow's environment: the released network rebuilt in Keras, and its rate.

    python tensorflow_network.py WEIGHTS.npz CASE.npz SECONDS

CASE holds image, seed (z, y, x) float32, and the corrected logits that petavox gives in float32.
"""

import json
import sys
import time

import numpy as np
import tensorflow as tf
from tensorflow import keras


def network(weights, depth: int):
    """Keras model (1, z, y, x, 2) -> (1, z, y, x, 1), with the released weights."""

    def conv(name, x, features=32, size=3):
        layer = keras.layers.Conv3D(features, size, padding="same", name=name)
        out = layer(x)
        key = f"seed_update__{name}"
        layer.set_weights([weights[f"{key}__weights"], weights[f"{key}__biases"]])
        return out

    relu = keras.layers.ReLU
    given = keras.Input((33, 33, 33, 2))
    x = conv("conv0_b", relu()(conv("conv0_a", given)))
    for k in range(1, depth):
        x = keras.layers.Add()([x, conv(f"conv{k}_b", relu()(conv(f"conv{k}_a", relu()(x))))])
    return keras.Model(given, conv("conv_lom", relu()(x), 1, 1))


def rate(step, x, seconds):
    """Calls per second, after two to warm up."""
    step(x)
    step(x)
    calls, began = 0, time.perf_counter()
    cpu = time.process_time()
    while time.perf_counter() - began < seconds:
        step(x).numpy()
        calls += 1
    wall = time.perf_counter() - began
    return round(calls / wall, 2), round(1e3 * (time.process_time() - cpu) / calls, 1)


def main():
    """Rates and the difference to petavox, as one line of JSON."""
    weights, case, seconds = np.load(sys.argv[1]), np.load(sys.argv[2]), float(sys.argv[3])
    model = network(weights, depth=12)
    x = tf.constant(np.stack([case["image"], case["seed"]], -1)[None])
    step = tf.function(lambda v: model(v, training=False))
    found = case["seed"] + step(x).numpy()[0, ..., 0]
    plain = rate(step, x, seconds)
    compiled = rate(tf.function(lambda v: model(v, training=False), jit_compile=True), x, seconds)
    print(
        json.dumps(
            {
                "f32_fov_per_s": plain[0],
                "f32_cpu_ms_per_fov": plain[1],
                "f32_xla_fov_per_s": compiled[0],
                "largest_difference_of_logits": float(np.abs(found - case["logits"]).max()),
            }
        )
    )


main()
