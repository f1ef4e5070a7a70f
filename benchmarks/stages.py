"""The stages of a call on one element, each to be timed alone; for that they are taken from inside the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import gpu_transconv as gtc
from gpu_transconv.arrays import read
from gpu_transconv.dispatch.select import select
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.plan import make_plan
from gpu_transconv.run import prepare
from gpu_transconv.settings import resolve


class Stages(NamedTuple):
    """Two whole calls, and the two of their parts that are no overhead."""

    prepared: Callable[[], Any]
    function: Callable[[], Any]
    pack: Callable[[], Any]
    launch: Callable[[], Any]


def stages_of_a_call() -> Stages:
    """Make each of them ready, and run it once."""
    x = np.ones((1, 1, 1, 1), np.float32)
    plan = make_plan(make_params(2), x.shape, x.shape, "float32", False)
    row = select(plan, resolve()).implementation
    layer, out = gtc.ConvTranspose(x), np.empty_like(x)
    weights = prepare(row, plan, read(x, x, None))
    stages = Stages(
        prepared=lambda: layer(x),
        function=lambda: gtc.conv_transpose2d(x, x),
        pack=lambda: row.pack(plan, x, None),
        launch=lambda: row.launch(plan, x, weights.weight, None, out, weights.packed),
    )
    for run in stages:
        run()
    return stages
