"""Which share of a model's multiplications is in its transposed convolutions, counted by hooks while it runs.

::

    python -m benchmarks.shares       # write the table of docs/guide/is_it_worth_it.md

The models are their papers' architectures without weights, on a device that computes shapes and nothing else.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from .readme import ROOT, replaced
from .tables import table, table_row

PAGE = ROOT / "docs" / "guide" / "is_it_worth_it.md"
BEGIN, END = "<!-- shares: begin, by python -m benchmarks.shares -->", "<!-- shares: end -->"


def count(model: Any, x: Any) -> tuple[int, int]:
    """Multiplications of the transposed convolutions, and of all layers, while `model` runs on `x`."""
    import torch
    from torch.nn import LSTM, Linear
    from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

    found = {True: 0, False: 0}

    def seen(layer: Any, given: tuple[Any, ...], made: Any) -> None:
        if isinstance(layer, _ConvTransposeNd):
            found[True] += given[0].numel() * layer.out_channels // layer.groups * math.prod(layer.kernel_size)
        elif isinstance(layer, _ConvNd):
            found[False] += made.numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        elif isinstance(layer, Linear):
            found[False] += made.numel() * layer.in_features
        elif isinstance(layer, LSTM):
            steps = given[0].numel() // given[0].shape[-1]
            found[False] += steps * sum(weight.numel() for weight in layer.parameters() if weight.ndim == 2)

    hooks = [layer.register_forward_hook(seen) for layer in model.modules()]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found[True], found[True] + found[False]


def dcgan() -> tuple[Any, Any]:
    """The generator, and its input."""
    import torch
    from torch import nn

    widths = (1024, 512, 256, 128, 3)
    layers: list[Any] = [nn.ConvTranspose2d(100, 1024, 4, bias=False)]
    for a, b in pairwise(widths):
        layers += [nn.BatchNorm2d(a), nn.ReLU(), nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)]
    return nn.Sequential(*layers, nn.Tanh()), torch.empty(1, 100, 1, 1)


def fsrcnn() -> tuple[Any, Any]:
    """The model that makes pictures three times as large, and its input."""
    import torch
    from torch import nn

    convolutions = [nn.Conv2d(1, 56, 5, padding=2), nn.Conv2d(56, 12, 1),
                    *[nn.Conv2d(12, 12, 3, padding=1) for _ in range(4)], nn.Conv2d(12, 56, 1)]  # fmt: skip
    layers = [layer for one in convolutions for layer in (one, nn.PReLU(one.out_channels))]
    return nn.Sequential(*layers, nn.ConvTranspose2d(56, 1, 9, 3, 4, 2)), torch.empty(1, 1, 64, 64)


def _unet(dims: int, widths: Sequence[int], size: int) -> tuple[Any, Any]:
    """Two convolutions of kernel 3 per level, halves of size by pooling, doubled by kernels of 2 with stride 2."""
    import torch
    from torch import nn

    conv, up, pool = (getattr(nn, f"{name}{dims}d") for name in ("Conv", "ConvTranspose", "MaxPool"))

    def two(a: int, b: int) -> Any:
        return nn.Sequential(conv(a, b, 3, padding=1), conv(b, b, 3, padding=1))

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            ends = list(pairwise(widths))
            self.down = nn.ModuleList([two(1, widths[0]), *[two(a, b) for a, b in ends]])
            self.up = nn.ModuleList([up(b, a, 2, 2) for a, b in reversed(ends)])
            self.after = nn.ModuleList([two(2 * a, a) for a, _ in reversed(ends)])
            self.last, self.pool = conv(widths[0], 2, 1), pool(2)

        def forward(self, x: Any) -> Any:
            kept = []
            for index, level in enumerate(self.down):
                x = level(self.pool(x) if index else x)
                kept.append(x)
            for larger, level, before in zip(self.up, self.after, reversed(kept[:-1]), strict=True):
                x = level(torch.cat([before, larger(x)], 1))
            return self.last(x)

    return UNet(), torch.empty(1, 1, *[size] * dims)


def _hifigan() -> tuple[Any, Any]:
    import torch
    from torch import nn

    layers: list[Any] = [nn.Conv1d(80, 512, 7, padding=3)]
    for width, kernel, stride in ((512, 16, 8), (256, 16, 8), (128, 4, 2), (64, 4, 2)):
        layers.append(nn.ConvTranspose1d(width, width // 2, kernel, stride, (kernel - stride) // 2))
        layers.append(_beside([
            nn.Sequential(*[nn.Conv1d(width // 2, width // 2, k, padding="same", dilation=d)
                            for dilation in (1, 3, 5) for d in (dilation, 1)])
            for k in (3, 7, 11)
        ]))  # fmt: skip
    return nn.Sequential(*layers, nn.Conv1d(32, 1, 7, padding=3)), torch.empty(1, 80, 100)


def _beside(branches: list[Any]) -> Any:
    """Branches on one input, added up."""
    from torch import nn

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList(branches)

        def forward(self, x: Any) -> Any:
            return sum(branch(x) for branch in self.branches)

    return Beside()


def _encodec() -> tuple[Any, Any]:
    import torch
    from torch import nn

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(512, 512, 2, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.lstm(x.transpose(1, 2))[0].transpose(1, 2)

    layers: list[Any] = [nn.Conv1d(128, 512, 7, padding=3), First()]
    width = 512
    for ratio in (8, 5, 4, 2):
        layers.append(nn.ConvTranspose1d(width, width // 2, 2 * ratio, ratio, ratio // 2))
        width //= 2
        layers.append(_beside([nn.Sequential(nn.Conv1d(width, width // 2, 3, 1, 1), nn.Conv1d(width // 2, width, 1)),
                               nn.Conv1d(width, width, 1)]))  # fmt: skip
    return nn.Sequential(*layers, nn.Conv1d(32, 1, 7, padding=3)), torch.empty(1, 128, 75)


def _codec(latent: int, widths: Sequence[int], rates: Sequence[int], audio: int, frames: int) -> tuple[Any, Any]:
    """A decoder of audio: per rate a transposed convolution, and three residual units of kernels 7 and 1."""
    import torch
    from torch import nn

    layers: list[Any] = [nn.Conv1d(latent, widths[0], 7, padding=3)]
    for (before, after), rate in zip(pairwise(widths), rates, strict=True):
        layers.append(nn.ConvTranspose1d(before, after, 2 * rate, rate, (rate + 1) // 2))
        layers += [nn.Sequential(nn.Conv1d(after, after, 7, dilation=d, padding="same"), nn.Conv1d(after, after, 1))
                   for d in (1, 3, 9)]  # fmt: skip
    return nn.Sequential(*layers, nn.Conv1d(widths[-1], audio, 7, padding=3)), torch.empty(1, latent, frames)


#: Name, what it is for, where it is from, and how it is built.
MODELS: tuple[tuple[str, str, str, Callable[[], tuple[Any, Any]]], ...] = (
    ("DCGAN's generator", "pictures from noise", "arXiv:1511.06434", dcgan),
    ("FSRCNN, three times as large", "super-resolution", "arXiv:1608.00367", fsrcnn),
    ("EnCodec's decoder, 24 kHz", "audio codec", "arXiv:2210.13438", _encodec),
    ("DAC's decoder, 44 kHz", "audio codec", "arXiv:2306.06546",
     lambda: _codec(1024, (1536, 768, 384, 192, 96), (8, 8, 4, 2), 1, 50)),
    ("Stable Audio's decoder", "music generation", "arXiv:2407.14358",
     lambda: _codec(64, (2048, 1024, 512, 256, 128, 128), (8, 8, 4, 4, 2), 2, 8)),
    ("nnU-Net, 3-D", "medical segmentation", "arXiv:1809.10486",
     lambda: _unet(3, (32, 64, 128, 256, 320, 320), 128)),
    ("U-Net, 2-D", "segmentation", "arXiv:1505.04597", lambda: _unet(2, (64, 128, 256, 512, 1024), 256)),
    ("HiFi-GAN V1", "vocoder", "arXiv:2010.05646", _hifigan),
)  # fmt: skip


def shares() -> list[tuple[str, str, str, int, int]]:
    """Name, purpose, source, multiplications of the transposed convolutions and of all layers, for every model."""
    import torch

    found = []
    for name, purpose, source, build in MODELS:
        with torch.device("meta"):
            found.append((name, purpose, source, *count(*build())))
    return found


def section() -> str:
    """Write the page's table: the largest shares first."""
    lines = table(
        ("model", "for", "architecture", "transposed, million", "all, million", "share", "at most"), "lllrrrr"
    )
    for name, purpose, source, ours, total in sorted(shares(), key=lambda row: -row[3] / row[4]):
        share = ours / total
        most = "-" if share == 1 else f"{1 / (1 - share):.2f}"
        cells = (name, purpose, source, f"{ours / 1e6:,.0f}", f"{total / 1e6:,.0f}", f"{share:.0%}", most)
        lines.append(table_row(cells))
    return "\n".join(lines)


def main() -> int:
    """Write the table."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replaced(text, section(), BEGIN, END, PAGE.name), encoding="utf-8")
    print(f"written: {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
