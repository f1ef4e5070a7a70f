"""Train a generator of digits against a discriminator; stop at any time, and go on from the last checkpoint.

::

    python -m docs.noise_to_digits.train upscaling
    python -m docs.noise_to_digits.train constant_size --minutes 4     # a part of it; the same command goes on

What comes out is kept in docs/noise_to_digits/results, and shown on a page of the gallery.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress, TextColumn
from torch.nn.functional import softplus

from .data import split
from .measure import measure
from .models import GENERATORS, Discriminator

RESULTS = Path(__file__).with_name("results")
BATCH, RATE = 64, 1e-3
#: Weight of the squared gradient of the discriminator at real digits, which keeps it from becoming too steep (R1), and
#: every how many steps it is added, as many times as heavy: it takes longer than the rest of a step.
STEEPNESS, SELDOM = 1.0, 4
#: How slowly the generator that is kept follows the one that is trained.
MEMORY = 0.998
STEPS = {"upscaling": 6_000, "constant_size": 4_000}
#: Steps between checkpoints, and pictures kept at each of the moments that the page shows.
EVERY, SHOWN = 500, 40
MOMENTS = (0, 100, 400, 1500)
SAMPLES = 2000


@dataclass
class Training:
    """Everything that goes on after an interruption: networks, optimisers, random numbers, what was seen so far."""

    name: str
    step: int = 0
    losses: list[tuple[float, float]] = field(default_factory=list)
    moments: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.generator, self.discriminator = GENERATORS[self.name](), Discriminator()
        self.kept = copy.deepcopy(self.generator).requires_grad_(False)
        self.optimisers = [torch.optim.Adam(model.parameters(), RATE, betas=(0.0, 0.99))
                           for model in (self.generator, self.discriminator)]  # fmt: skip
        self.digits = torch.from_numpy(split()[1].pictures)[:, None]

    def advance(self) -> None:
        """Take one step: the discriminator learns, then the generator."""
        if self.step in MOMENTS:
            self.moments[self.step] = self.pictures(SHOWN)
        real = self.digits[torch.randint(len(self.digits), (BATCH,))]
        scores = self.discriminator(real)
        with torch.no_grad():
            made = self.generator(self.generator.draw(BATCH))
        judged = softplus(-scores).mean() + softplus(self.discriminator(made)).mean()
        self._step(1, judged + (0 if self.step % SELDOM else self._steepness(real)))
        painted = softplus(-self.discriminator(self.generator(self.generator.draw(BATCH)))).mean()
        self._step(0, painted)
        with torch.no_grad():
            for old, new in zip(self.kept.parameters(), self.generator.parameters(), strict=True):
                old.lerp_(new, 1 - min(MEMORY, (self.step + 1) / (self.step + 10)))
        self.losses.append((judged.item(), painted.item()))
        self.step += 1

    def _steepness(self, real: torch.Tensor) -> torch.Tensor:
        """Penalty on how much the score changes around real digits."""
        real = real.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(real).sum(), real, create_graph=True)
        return SELDOM * STEEPNESS / 2 * slope.square().sum((1, 2, 3)).mean()

    def _step(self, which: int, loss: torch.Tensor) -> None:
        self.optimisers[which].zero_grad()
        loss.backward()
        self.optimisers[which].step()

    @torch.no_grad()
    def pictures(self, count: int, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Make pictures of fixed noise with the generator that is kept, shape (count, 8, 8)."""
        noise = self.kept.draw(count, torch.Generator().manual_seed(seed))
        return np.asarray(self.kept(noise)[:, 0])

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {"step": self.step, "losses": self.losses, "moments": self.moments, "random": torch.get_rng_state(),
                 "models": [model.state_dict() for model in self._models()],
                 "optimisers": [optimiser.state_dict() for optimiser in self.optimisers]}  # fmt: skip
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, weights_only=False)
        self.step, self.losses, self.moments = state["step"], state["losses"], state["moments"]
        for model, values in zip(self._models(), state["models"], strict=True):
            model.load_state_dict(values)
        for optimiser, values in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(values)
        torch.set_rng_state(state["random"])

    def _models(self) -> tuple[torch.nn.Module, ...]:
        return self.generator, self.discriminator, self.kept

    def results(self, path: Path) -> None:
        """Write what the page shows: weights in half precision, pictures in steps of 1/255, losses, measures."""
        arrays = {f"{kind}_{index}": getattr(layer, kind).detach().numpy().astype(np.float16)
                  for index, layer in enumerate(self.kept.layers) for kind in ("weight", "bias")}  # fmt: skip
        for step, pictures in {**self.moments, self.step: self.pictures(SHOWN)}.items():
            arrays[f"step_{step}"] = np.round(255 * pictures).astype(np.uint8)
        found = measure(self.pictures(SAMPLES))
        arrays |= {name: np.asarray(value) for name, value in found._asdict().items()}
        means = np.array(self.losses[: len(self.losses) // 100 * 100]).reshape(-1, 100, 2).mean(1)
        np.savez_compressed(path, losses=means.astype(np.float32), **arrays)


def run(name: str, steps: int, checkpoint: Path, minutes: float = np.inf) -> Training:
    """Train up to `steps` steps or for some minutes, from the checkpoint if there is one, behind a progress bar."""
    training, until = Training(name), time.monotonic() + 60 * minutes
    if checkpoint.exists():
        training.load(checkpoint)
    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[losses]}")) as progress:
        task = progress.add_task(name, total=steps, completed=training.step, losses="")
        while training.step < steps and time.monotonic() < until:
            training.advance()
            if training.step % EVERY == 0:
                training.save(checkpoint)
            if training.step % 20 == 0:
                words = "discriminator {:.2f}, generator {:.2f}".format(*training.losses[-1])
                progress.update(task, completed=training.step, losses=words)
        training.save(checkpoint)
    return training


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one of the generators; 1 if there is more to do."""
    parser = argparse.ArgumentParser(prog="python -m docs.noise_to_digits.train", description=__doc__.split("\n", 1)[0])
    parser.add_argument("generator", choices=sorted(GENERATORS))
    parser.add_argument("--steps", type=int, help=f"default: {STEPS}")
    parser.add_argument("--minutes", type=float, default=np.inf, help="stop after so many, to go on later")
    parser.add_argument("--checkpoint", type=Path, help="default: NAME.checkpoint in the present folder")
    options = parser.parse_args(arguments)
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    steps = options.steps or STEPS[options.generator]
    training = run(options.generator, steps, options.checkpoint or Path(f"{options.generator}.checkpoint"),
                   options.minutes)  # fmt: skip
    if training.step < steps:
        print(f"{training.step} of {steps} steps; the same command goes on")
        return 1
    training.results(RESULTS / f"{options.generator}.npz")
    print(measure(training.pictures(SAMPLES)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
