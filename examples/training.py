"""An autoencoder learns to draw blobs on the package's kernels: python examples/training.py."""

import argparse
from collections.abc import Sequence

import torch
from rich.progress import track
from torch import nn

import gpu_transconv as gtc


def autoencoder() -> nn.Module:
    """From 32 x 32 pixels to eight numbers and back."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 64, 8), nn.Linear(8, 32 * 64), nn.Unflatten(1, (32, 8, 8)),
        nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip


def blobs(count: int) -> torch.Tensor:
    """Pictures of one round blob each, anywhere, of any size."""
    (y, x, radius), places = 8 + 16 * torch.rand(3, count, 1, 1, 1), torch.arange(32.0)
    return torch.exp(-((places[:, None] - y) ** 2 + (places - x) ** 2) / (radius / 3) ** 2)


def train(model: nn.Module, steps: int, title: str) -> list[float]:
    """Train on the same pictures in every call; the loss at every step."""
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in track(range(steps), title, transient=True):
        loss = nn.functional.mse_loss(model(pictures := blobs(32)), pictures)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main(arguments: Sequence[str] | None = None) -> tuple[list[float], list[float]]:
    """Train twice from the same start, with torch and with the package; the losses of both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="five steps instead of 200")
    steps = 5 if parser.parse_args(arguments).quick else 200
    torch.manual_seed(0)
    plain, ours = autoencoder(), autoencoder()
    gtc.torch.accelerate(ours).load_state_dict(plain.state_dict())
    losses = train(plain, steps, "torch"), train(ours, steps, "gpu_transconv")
    print(f"loss with torch {losses[0][0]:.4f} to {losses[0][-1]:.4f}, with the package to {losses[1][-1]:.4f}")
    return losses


if __name__ == "__main__":
    main()
