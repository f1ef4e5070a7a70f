"""The decoder of an audio codec, chunk by chunk as in a conversation: python examples/codec.py."""

import argparse
import time
from collections.abc import Sequence

import torch
from rich.progress import track
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import gpu_transconv as gtc


class Decoder(nn.Module):
    """Four times longer, half as wide, in four steps, with the shapes of EnCodec's decoder for 24 kHz."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(128, width, 7, padding=3)]
        for stride in (8, 5, 4, 2):
            up = nn.ConvTranspose1d(width, width // 2, 2 * stride, stride, stride // 2, stride % 2)
            width //= 2
            layers += [nn.ELU(), weight_norm(up), nn.ELU(), weight_norm(nn.Conv1d(width, width, 3, padding=1))]
        self.layers = nn.Sequential(*layers, nn.ELU(), nn.Conv1d(width, 1, 7, padding=3), nn.Tanh())

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes of shape (N, 128, frames) to sound of shape (N, 1, 320 * frames)."""
        return self.layers(codes)


@torch.inference_mode()
def decode(model: nn.Module, chunks: Sequence[torch.Tensor], title: str) -> tuple[torch.Tensor, float]:
    """Decode chunk after chunk; the sound, and seconds."""
    model(chunks[0])  # the first call compiles
    start = time.perf_counter()
    sound = [model(chunk) for chunk in track(chunks, title, transient=True)]
    return torch.cat(sound, -1), time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> float:
    """Decode with torch and with the package; the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two chunks of four frames instead of 200")
    count = 2 if parser.parse_args(arguments).quick else 200
    torch.manual_seed(0)
    model, chunks = Decoder().eval(), list(torch.randn(count, 1, 128, 4))
    want, before = decode(model, chunks, "torch")
    got, after = decode(gtc.torch.accelerate(model), chunks, "gpu_transconv")
    print(f"{want.shape[-1] / 24000:.1f} s of sound: torch {before:.2f} s, with gpu_transconv {after:.2f} s")
    return float((got - want).abs().max())


if __name__ == "__main__":
    main()
