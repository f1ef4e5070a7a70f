"""Learn the filter of a transposed convolution in JAX: its gradients run in this package's kernels, inside jit.

python examples/train_with_jax.py [--quick]
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from gpu_transconv.jax import conv_transpose

rng = np.random.default_rng(0)
truth = rng.standard_normal((8, 1, 4, 4)).astype(np.float32)
x = rng.standard_normal((4, 8, 16, 16)).astype(np.float32)


def generate(weight, x):
    return conv_transpose(x, weight, stride=2, padding=1)


def loss(weight):
    return jnp.mean((generate(weight, x) - generate(truth, x)) ** 2)


@jax.jit
def step(weight):
    value, slope = jax.value_and_grad(loss)(weight)
    return weight - 0.1 * slope, value


weight = jnp.zeros_like(truth)
for number in range(60 if "--quick" in sys.argv else 300):
    weight, value = step(weight)
    if number % 20 == 0:
        print(f"step {number:3}: loss {value:.2e}")
one_by_one = jax.vmap(generate, (None, 0))(weight, x[:, None])  # maps over x become one call with a larger batch
assert jnp.allclose(one_by_one[:, 0], generate(weight, x), atol=1e-5)
assert value < 0.1 * loss(jnp.zeros_like(truth))
