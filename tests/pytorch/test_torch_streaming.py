"""Streams on the weights of a model's layers: their results, whatever the chunks and whatever made the weights."""

from __future__ import annotations

import copy
import pickle

import pytest
from checks import refused
from torch_models import KINDS, OwnForward

import gpu_transconv as gtc

torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def streamed(stream, x, sizes, axis=-1):
    """Results of all pieces, put together."""
    pieces = torch.split(x, [*sizes, x.shape[axis] - sum(sizes)], axis)
    return torch.cat([*(stream(piece) for piece in pieces), stream.finish()], axis)


def close(got, want):
    return got.shape == want.shape and bool((got - want).abs().max() <= 1e-5 * want.abs().max())


@pytest.mark.parametrize("axes", KINDS)
@pytest.mark.parametrize("make", [lambda layer: layer, gtc.torch.accelerate], ids=["torchs", "ours"])
def test_any_chunks_give_the_layers_result(axes, make):
    keywords = {"padding": 2, "output_padding": 1, "groups": 2, "dilation": 2, "bias": axes != 2}
    layer = make(KINDS[axes](6, 4, 5, 3, **keywords))
    x = torch.randn(2, 6, *(11, 4, 3)[:axes])
    stream = gtc.torch.StreamingConvTranspose(layer, axis=0)
    results = [streamed(stream, x, sizes, 2) for sizes in ([], [1] * 10, [0, 7, 2])]
    assert close(results[0], layer(x))
    assert [torch.equal(result, results[0]) for result in results] == [True] * 3
    assert streamed(stream, x[0], [4], 1).shape == results[0][0].shape


def test_padding_takes_the_place_of_a_crop():
    layer, x = nn.ConvTranspose1d(4, 3, 8, 4), torch.randn(1, 4, 9)
    stream = gtc.torch.StreamingConvTranspose(layer, padding=[(1, 4)], activation="relu")
    assert stream.delay == 0
    assert close(streamed(stream, x, [1, 1]), layer(x)[:, :, 1:-4].relu())
    assert "padding=[(1, 4)], axis=-1, delay=0" in repr(stream)


def test_bfloat16():
    dtype = torch.bfloat16
    layer, x = nn.ConvTranspose1d(4, 3, 8, 4, dtype=dtype), torch.randn(1, 4, 9, dtype=dtype)
    stream = gtc.torch.StreamingConvTranspose(layer)
    got = streamed(stream, x, [1, 3])
    assert got.dtype is dtype
    assert torch.allclose(got, layer(x), atol=0.02)
    with refused(TypeError, "weight must have x's dtype float32", "bfloat16"):
        stream(x.float())


def test_the_weights_are_the_layers():
    layer, x = nn.ConvTranspose1d(4, 3, 8, 4), torch.randn(1, 4, 9)
    stream = gtc.torch.StreamingConvTranspose(layer)
    assert {name: id(p) for name, p in stream.named_parameters()} == {
        "layer.weight": id(layer.weight), "layer.bias": id(layer.bias)
    }  # fmt: skip
    before = layer(x)
    parts = [stream(x[:, :, :5])]
    layer.weight.mul_(2)
    parts += [stream(x[:, :, 5:]), stream.finish()]
    assert close(torch.cat(parts, 2), before)  # a stream ends with the weights that it began with
    assert close(streamed(stream, x, [3]), layer(x))
    stream.load_state_dict({"layer.weight": torch.ones(4, 3, 8), "layer.bias": torch.ones(3)})
    assert close(streamed(stream, x, [3]), layer(x))
    layer.double()
    assert close(streamed(stream, x.double(), [3]), layer(x.double()))


def test_weights_are_packed_once(monkeypatch):
    from support.fakes import count_packing

    packed = count_packing(monkeypatch)
    stream = gtc.torch.StreamingConvTranspose(nn.ConvTranspose1d(4, 3, 8, 4), formulation="gather")
    for _ in range(3):
        streamed(stream, torch.randn(1, 4, 9), [3])
    streamed(stream.copy(), torch.randn(1, 4, 9), [3])
    assert len(packed) == 1


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "norm",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        lambda layer: nn.utils.prune.random_unstructured(layer, "weight", 0.5),
    ],
    ids=["weight_norm", "old weight_norm", "spectral_norm", "pruned"],
)
def test_what_the_weights_are_made_of_decides(norm):
    layer, x = norm(nn.ConvTranspose1d(4, 3, 8, 4)).eval(), torch.randn(1, 4, 9)
    stream = gtc.torch.StreamingConvTranspose(layer)
    assert close(streamed(stream, x, [3]), layer(x))
    next(p for name, p in layer.named_parameters() if name != "bias").mul_(2)
    got = streamed(stream, x, [3])  # before the layer itself is called
    assert close(got, layer(x))


@pytest.mark.parametrize("how", ["copy", "copy.copy", "deepcopy", "pickle"])
def test_a_copy_goes_on_by_itself(how):
    ways = {
        "copy": lambda o: o.copy(), "copy.copy": copy.copy, "deepcopy": copy.deepcopy,
        "pickle": lambda o: pickle.loads(pickle.dumps(o)),
    }  # fmt: skip
    layer, x = nn.ConvTranspose1d(4, 3, 8, 4), torch.randn(1, 4, 9)
    stream = gtc.torch.StreamingConvTranspose(layer)
    start = stream(x[:, :, :4])
    other = ways[how](stream)
    stream(torch.full_like(x, torch.nan))
    assert close(torch.cat([start, other(x[:, :, 4:]), other.finish()], 2), layer(x))
    assert (other.layer is layer) == how.startswith("copy")
    stream.reset()
    assert close(streamed(stream, x, [4]), layer(x))


def test_threads_follow_torch(monkeypatch):
    from gpu_transconv.torch import streaming

    seen = []
    monkeypatch.setattr(streaming, "follow_threads", lambda count, _: seen.append(count))
    stream = gtc.torch.StreamingConvTranspose(nn.ConvTranspose1d(4, 3, 8, 4))
    streamed(stream, torch.randn(1, 4, 9), [])
    assert seen == [torch.get_num_threads()] * 2  # the chunk and the end


def test_in_compiled_code_it_is_called_as_it_is():
    model = nn.Sequential(nn.Tanh(), gtc.torch.StreamingConvTranspose(nn.ConvTranspose1d(4, 3, 8, 4)), nn.Tanh())
    x = torch.randn(1, 4, 9)
    compiled = torch.compile(model, backend="eager")
    parts = [compiled(x[:, :, :4]), compiled(x[:, :, 4:])]
    model[1].reset()
    assert torch.equal(torch.cat(parts, 2), torch.cat([model(x[:, :, :4]), model(x[:, :, 4:])], 2))


@pytest.mark.parametrize(
    ("layer", "error", "words"),
    [
        (nn.Conv1d(2, 2, 3), TypeError, ["layer must be a transposed convolution", "Conv1d"]),
        (
            OwnForward(2, 2, 3),
            TypeError,
            ["layer must be a transposed convolution", "OwnForward has a forward of its own"],
        ),
        ("up", TypeError, ["layer must be a transposed convolution", "got str"]),
        (
            nn.ConvTranspose1d(2, 2, 3, device="meta"),
            gtc.BackendUnavailableError,
            ["layer must have its weights on the CPU", "meta"],
        ),
        (nn.LazyConvTranspose1d(2, 3), TypeError, ["weight must have values", "call its layer once"]),
    ],
    ids=["convolution", "own forward", "no module", "meta", "lazy"],
)
def test_other_layers_are_refused(layer, error, words):
    with refused(error, *words):
        gtc.torch.StreamingConvTranspose(layer)


def test_bad_calls_are_refused():
    layer = nn.ConvTranspose1d(2, 2, 3)
    with refused(ValueError, "axis", "got 1"):
        gtc.torch.StreamingConvTranspose(layer, axis=1)
    stream = gtc.torch.StreamingConvTranspose(layer)
    with refused(TypeError, "x must be a torch.Tensor", "ndarray"):
        stream(torch.ones(1, 2, 3).numpy())
    with refused(ValueError, "x must have", "channels"):
        stream(torch.ones(1, 3, 3))
    with refused(ValueError, "finish must follow a chunk"):
        stream.finish()
    with torch.enable_grad(), refused(TypeError, "x and the layer's weights must need no gradient", "torch.no_grad()"):
        stream(torch.ones(1, 2, 3))


class CausalConv(nn.Module):
    """A convolution with zeros before its input; as a step, with the end of the last chunk there."""

    def __init__(self, *arguments):
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(*arguments))
        self.before = self.conv.kernel_size[0] - 1

    def forward(self, x):
        return self.conv(nn.functional.pad(x, (self.before, 0)))

    def step(self):
        kept = [torch.zeros(1, self.conv.in_channels, self.before)]

        def call(x):
            x = torch.cat([kept.pop(), x], 2)
            kept.append(x[:, :, x.shape[2] - self.before :])
            return self.conv(x)

        return call


class CausalUp(nn.Module):
    """A transposed convolution whose end is cropped, as EnCodec has it."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(cin, cout, 2 * stride, stride))

    def forward(self, x):
        return self.conv(x)[:, :, : -self.conv.stride[0]]

    def step(self):
        return gtc.torch.StreamingConvTranspose(self.conv, padding=[(0, self.conv.stride[0])])


class Decoder(nn.Module):
    """EnCodec's causal decoder in small: convolution, LSTM, and upsampling with residual branches."""

    def __init__(self, width=32):
        super().__init__()
        self.first, self.last = CausalConv(8, width, 7), CausalConv(width // 16, 1, 7)
        self.lstm = nn.LSTM(width, width, 2)
        self.blocks = nn.ModuleList()
        for level, stride in enumerate((8, 5, 4, 2)):
            half = width // 2 ** (level + 1)
            branch = CausalConv(half, half // 2 or 1, 3), CausalConv(half // 2 or 1, half, 1)
            self.blocks.append(nn.ModuleList([CausalUp(2 * half, half, stride), *branch]))

    def run(self, call, x, memory=None):
        """Codes to sound, each layer by `call`; returns the LSTM's memory too."""
        elu = nn.functional.elu
        x = call(self.first)(x)
        y, memory = self.lstm(x.permute(2, 0, 1), memory)
        x = x + y.permute(1, 2, 0)
        for up, narrow, wide in self.blocks:
            x = call(up)(elu(x))
            x = x + call(wide)(elu(call(narrow)(elu(x))))
        return call(self.last)(elu(x)), memory


@pytest.mark.parametrize("frames", [1, 5])
@torch.inference_mode()
def test_a_codecs_decoder_frame_by_frame_is_the_whole_decoder(frames):
    with torch.inference_mode(False):
        decoder = Decoder()
    codes = torch.randn(1, 8, 15)
    whole, _ = decoder.run(lambda module: module, codes)
    steps = {module: module.step() for module in decoder.modules() if isinstance(module, CausalConv | CausalUp)}
    sound, memory = [], None
    for piece in codes.split(frames, 2):
        part, memory = decoder.run(steps.__getitem__, piece, memory)
        assert part.shape == (1, 1, 320 * frames)  # each frame is heard at once
        sound.append(part)
    assert close(torch.cat(sound, 2), whole)
