"""A 3-D U-Net over a large volume, window by window: python examples/unet.py."""

import argparse
import time
from collections.abc import Sequence
from itertools import pairwise

import torch
from rich.progress import track
from torch import nn

import gpu_transconv as gtc


def block(channels: int, width: int) -> nn.Sequential:
    """Convolution, normalisation, activation."""
    return nn.Sequential(nn.Conv3d(channels, width, 3, padding=1), nn.InstanceNorm3d(width), nn.LeakyReLU())


class UNet(nn.Module):
    """Down and up again in steps of two."""

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 256), classes: int = 2) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.first, self.last = block(1, widths[0]), nn.Conv3d(widths[0], classes, 1)
        self.down = nn.ModuleList(nn.Sequential(nn.MaxPool3d(2), block(a, b)) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in pairs)
        self.join = nn.ModuleList(block(2 * a, a) for a, _ in pairs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A volume of shape (N, 1, depth, height, width) to a score per class and voxel."""
        kept = [y := self.first(x)]
        kept += [y := down(y) for down in self.down]
        for up, join, skip in zip(self.up[::-1], self.join[::-1], kept[-2::-1], strict=True):
            y = join(torch.cat([up(y), skip], 1))
        return self.last(y)


def main(arguments: Sequence[str] | None = None) -> float:
    """Segment with torch and with the package; the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one window instead of eight")
    count = 1 if parser.parse_args(arguments).quick else 8
    torch.manual_seed(0)
    model, results = UNet().eval(), {}
    windows = torch.randn(count, 1, 1, 48, 48, 48)
    for title, change in (("torch", gtc.torch.restore), ("gpu_transconv", gtc.torch.accelerate)):
        with torch.inference_mode():
            change(model)(windows[0])
            start = time.perf_counter()
            results[title] = torch.cat([model(window) for window in track(windows, title, transient=True)])
        print(f"{title}: {(time.perf_counter() - start) / count:.3f} s per window")
    return float((results["gpu_transconv"] - results["torch"]).abs().max())


if __name__ == "__main__":
    main()
