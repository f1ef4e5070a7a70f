"""What the launcher decides, and arrays of other kinds than NumPy's, in the simulator."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from cases import Case, named
from checks import as_format, assert_close, expected, implementations, keywords_of, make_arrays, run
from support.gradients import OPERATIONS, exact_gradient, make_gradient, reduction_of, run_gradient

import gpu_transconv as gtc
from gpu_transconv.kernels.kernel import Kernel
from gpu_transconv.kernels.numba_cuda import choose, enqueue, geometry, launch, memory, weight_cut, weight_launch
from gpu_transconv.kernels.numba_cuda import cuda as backend
from gpu_transconv.kernels.numba_cuda.cuda import Device, cuda
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.gradients import as_operation
from gpu_transconv.problem.plan import make_plan
from gpu_transconv.problem.sides import collecting, stamping

ROWS = implementations("numba-cuda")
ALL = implementations("numba-cuda", operations=("forward", *OPERATIONS))
REPEATABLE = [row for row in ALL if row.values[0].deterministic]
OVERLAP = named("2d-kernel-is-twice-stride")


def make(case: Case, dtype: str = "float32", batch: int | None = None):
    x = case.x if batch is None else (batch, *case.x[1:])
    return make_plan(make_params(case.ndim, **case.keywords), x, case.weight, dtype, case.bias)


@pytest.fixture
def fresh_launches():
    """Forget prepared launches before and after, since what they depend on is changed."""
    caches = [launch._gather, launch._atomic, launch._owned, enqueue.elementwise]
    caches += [weight_launch._gather, weight_launch._atomic, weight_launch._owned]
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("fresh_launches")
@pytest.mark.parametrize("row", REPEATABLE)
def test_the_same_bits_for_any_number_of_blocks(row, monkeypatch):
    monkeypatch.setattr(weight_cut, "LEAST_PIXELS", 5)
    monkeypatch.setattr(weight_cut, "BLOCK_PIXELS", 7)
    monkeypatch.setattr(weight_cut, "MOST_COPIES", 3)
    results = []
    for blocks in (1, 7, 1000):
        device = backend.current_device()._replace(blocks=blocks)
        for module in (launch, weight_launch):
            monkeypatch.setattr(module, "current_device", lambda device=device: device)
        results.append(run_overlap(row)[0].tobytes())
    assert len(set(results)) == 1


def run_overlap(row: Kernel) -> tuple[np.ndarray, np.ndarray, int]:
    """What a kernel makes of a case with overlap, the exact result, and how many products an element sums."""
    if row.operation == "forward":
        arrays = make_arrays(OVERLAP, "float32")
        want = expected(OVERLAP, arrays)
        return run(row, OVERLAP, arrays, "channels_first", "float32", want.shape), want, OVERLAP.reduction
    arrays = make_gradient(OVERLAP, "float32", "channels_first")
    want = exact_gradient(OVERLAP, row.operation, arrays, "channels_first")
    got = run_gradient(row, OVERLAP, arrays, "channels_first", "float32")
    return got, want, reduction_of(OVERLAP, row.operation)


@pytest.mark.usefixtures("fresh_launches")
@pytest.mark.parametrize("row", ALL)
def test_in_64_bit_indices(row, monkeypatch):
    seen = []

    def wide(plan):
        seen.append(plan)
        return "int64"

    monkeypatch.setattr(geometry, "index_type", wide)
    monkeypatch.setattr(enqueue, "index_type", wide)
    got, want, reduction = run_overlap(row)
    assert seen
    assert_close(got, want, "float32", reduction)


def test_indices_are_64_bits_wide_where_32_do_not_reach():
    plan = make(OVERLAP)
    assert geometry.index_type(plan) == "int32"
    assert geometry.index_type(make(OVERLAP, batch=2**24)) == "int64"
    far = make(Case("far", (1, 1, 1), (1, 1, 1), keywords={"stride": 2**33}))
    assert geometry.index_type(far) == "int64"
    many = replace(plan, batch=1, in_channels=1, axes=(plan.axes[0], plan.axes[1], replace(plan.axes[2], kernel=2**27)))
    assert geometry.index_type(many) == "int64"  # stamps without number


@pytest.mark.parametrize("row", ROWS)
def test_device_arrays_stay_on_the_device(row: Kernel):
    arrays = make_arrays(OVERLAP, "float32")
    want = expected(OVERLAP, arrays)
    x, weight, bias = (cuda.to_device(a) for a in arrays)
    got = gtc.conv_transpose(x, weight, bias, **OVERLAP.keywords, **keywords_of(row))
    assert type(got) is type(x)
    assert_close(got.copy_to_host(), want, "float32", OVERLAP.reduction)


def test_out_on_the_device_with_gaps():
    case = named("2d-unbatched")
    arrays = make_arrays(case, "float32")
    want = expected(case, arrays)
    whole = cuda.to_device(np.full((*want.shape[:-1], 2 * want.shape[-1]), np.nan, np.float32))
    out = whole[:, :, ::2]
    x, weight = cuda.to_device(arrays.x), cuda.to_device(arrays.weight)
    assert gtc.conv_transpose(x, weight, **case.keywords, backend="numba-cuda", out=out) is out
    filled = whole.copy_to_host()
    assert_close(filled[:, :, ::2], want, "float32", case.reduction)
    assert np.isnan(filled[:, :, 1::2]).all()


def test_an_input_that_is_not_contiguous():
    case = named("1d-grouped")
    arrays = make_arrays(case, "float64")
    x = cuda.to_device(np.ascontiguousarray(arrays.x.transpose(2, 0, 1))).transpose((1, 2, 0))
    assert not x.is_c_contiguous()
    weight, bias = cuda.to_device(arrays.weight), cuda.to_device(arrays.bias)
    got = gtc.conv_transpose(x, weight, bias, **case.keywords, backend="numba-cuda")
    assert_close(got.copy_to_host(), expected(case, arrays), "float64", case.reduction)


@pytest.mark.parametrize("row", ROWS)
def test_prepared_operator(row: Kernel):
    layer_case = Case("layer", (2, 3, 4, 5), (3, 4, 4, 4), bias=True, keywords={"stride": 2, "activation": "relu"})
    arrays = make_arrays(layer_case, "float16")
    layer = gtc.ConvTranspose(arrays.weight, arrays.bias, **layer_case.keywords, **keywords_of(row))
    for size in ((2, 3, 4, 5), (1, 3, 2, 2), (3, 3, 4, 5)):  # the workspace grows, and is used again
        case = replace(layer_case, x=size)
        inputs = make_arrays(case, "float16")._replace(weight=arrays.weight, bias=arrays.bias)
        assert_close(layer(inputs.x), expected(case, inputs), "float16", case.reduction)


def test_unsupported_dtypes_are_refused_before_any_launch(launched):
    x = np.ones((1, 1, 3), np.complex64)
    with pytest.raises(TypeError, match=r"^x must have one of the dtypes float16, float32, float64, got complex64"):
        gtc.conv_transpose1d(x, x, backend="numba-cuda")
    assert launched == []


def test_deterministic_takes_the_owned_tiles(launched):
    x = np.ones((1, 1, 3), np.float32)
    for deterministic in (True, False, None):
        gtc.conv_transpose1d(x, x, backend="numba-cuda", formulation="scatter", deterministic=deterministic)
    gtc.conv_transpose1d(x, x, backend="numba-cuda")
    scatter = "numba-cuda/scatter/"
    assert launched == [scatter + "tiles", scatter + "atomic", scatter + "atomic", "numba-cuda/gather"]


# Shapes of launches are arithmetic: here for devices that nobody has to own.

DEVICES = {
    "small": Device(0, 2, 1024, 48 * 1024, 2**31 - 1),
    "large": Device(0, 132, 1024, 48 * 1024, 2**31 - 1),
    "few threads": Device(0, 8, 64, 16 * 1024, 65535),
}
LAYERS = {
    "decoder": Case("decoder", (1, 512, 32, 32), (512, 256, 2, 2), keywords={"stride": 2}),
    "generator": Case("generator", (16, 128, 16, 16), (128, 64, 4, 4), keywords={"stride": 2, "padding": 1}),
    "rgb": Case("rgb", (1, 64, 64, 64), (64, 3, 4, 4), keywords={"stride": 2, "padding": 1}),
    "depthwise": Case("depthwise", (1, 64, 64, 64), (64, 1, 4, 4), keywords={"stride": 2, "groups": 64}),
    "speech": Case("speech", (1, 513, 200), (513, 1, 1024), keywords={"stride": 256}),
    "volume": Case("volume", (1, 32, 16, 16, 16), (32, 16, 3, 3, 3), keywords={"stride": 2}),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_shapes_fit_the_device(layer, device, dtype):
    device, plan = DEVICES[device], make(LAYERS[layer], dtype)
    for tile in (*choose.gather_tiles(plan, device), *choose.stamp_tiles(device)):
        assert tile.threads <= device.threads_per_block
    for operation in ("forward", "input_grad"):
        sides = stamping(as_operation(plan, operation))
        box = choose.choose_box(sides, device, choose.stamp_tiles(device)[-1])
        assert math.prod(box) <= choose.owned_elements(choose.item_size(plan), device)
        assert math.prod(box) * choose.item_size(plan) < device.shared_bytes
        assert 1 <= box[0] <= sides.result_channels
        covered = choose.box_count(sides, box) * math.prod(box)
        assert covered >= math.prod(sides.plan.result_shape)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("layer", [*LAYERS, "large"])
def test_the_gradient_by_the_weight_is_cut_to_fit(layer, dtype):
    """Parts, blocks and passes cover everything once, in bounded memory; where pixels are cut the device has no say."""
    case = LAYERS.get(layer, Case("large", (1, 2048, 4, 4), (2048, 1024, 5, 5)))
    plan = as_operation(make(case, dtype), "weight_grad")
    pixels, item, weights = math.prod(case.x) // case.x[1], choose.item_size(plan), math.prod(case.weight)
    parts, size = weight_cut.parts_of_gather(plan)
    assert (parts - 1) * size < pixels <= parts * size
    assert parts == 1 or parts * weights * item <= weight_cut.MOST_WORKSPACE
    copies = set()
    for tile in choose._STAMP_TILES:
        assert weight_cut.gather_cut(plan, tile)[:2] == (parts, size)
        owned, atomic = weight_cut.owned_cuts(plan, tile), weight_cut.atomic_cuts(plan, tile)
        for cuts in (owned, atomic):
            ends = [(cut.start, cut.start + cut.elements) for cut in cuts]
            assert (ends[0][0], ends[-1][1]) == (0, weights)
            assert all(end == start for (_, end), (start, _) in itertools.pairwise(ends))
        assert (len(atomic) > 1) == (layer == "large" and dtype == "float16")  # float32 is summed in place
        assert max(cut.parts * cut.elements for cut in owned) * item <= weight_cut.MOST_WORKSPACE
        copies |= {cut.parts for cut in owned}
    assert len(copies) == 1
    for row in ALL:
        if row.values[0].operation == "weight_grad":
            assert row.values[0].describe(plan).workspace_bytes <= weight_cut.MOST_WORKSPACE
    assert (parts > 1) == (layer not in ("speech", "large"))


def test_which_gather_runs_what():
    device = DEVICES["large"]
    direct = {name for name, case in LAYERS.items() if choose.is_direct(collecting(make(case)), device)}
    assert direct == {"rgb", "depthwise", "speech"}
    gradients = {name: collecting(as_operation(make(case), "input_grad")) for name, case in LAYERS.items()}
    assert {name for name, sides in gradients.items() if choose.is_direct(sides, device)} == direct


def test_small_problems_get_small_tiles():
    large = collecting(make(Case("large", (1, 1, 2**20), (1, 512, 1))))
    empty = collecting(make(Case("empty", (0, 1, 2**20), (1, 512, 1))))
    small = collecting(make(Case("small", (1, 1, 32, 32), (1, 64, 2, 2), keywords={"stride": 2})))
    large, empty, small = (choose.work_of(sides) for sides in (large, empty, small))
    assert [large, empty, small] == [(512, 2**20, 1), (512, 0, 1), (64, 1024, 4)]
    tiles = choose._TILES[4]
    assert choose.choose_tile(tiles, DEVICES["large"], large) == tiles[0]
    assert choose.choose_tile(tiles, DEVICES["large"], empty) == tiles[-1]
    assert choose.choose_tile(tiles, DEVICES["large"], small) == tiles[-1]
    assert choose.choose_tile(tiles, DEVICES["small"], small) == tiles[0]
    assert choose.item_size(make(OVERLAP)) == 4


def test_streams_do_not_leak():
    with memory.on_stream(None):
        assert memory.current_stream() == 0
    assert memory.current_stream() == 0


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_a_launch_is_prepared_once(data_format):
    arrays = make_arrays(OVERLAP, "float32")
    x = as_format(arrays.x, OVERLAP, data_format)
    gtc.conv_transpose(x, arrays.weight, arrays.bias, **OVERLAP.keywords, data_format=data_format, backend="numba-cuda")
    before = launch._gather.cache_info()
    gtc.conv_transpose(x, arrays.weight, arrays.bias, **OVERLAP.keywords, data_format=data_format, backend="numba-cuda")
    after = launch._gather.cache_info()
    assert (after.misses, after.hits) == (before.misses, before.hits + 1)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("row", ROWS)
def test_explanations_name_the_kernel(row, dtype):
    found = gtc.explain(
        (2, 8, 6, 6), (8, 8, 4, 4), stride=2, padding=1, activation="relu", dtype=dtype, **keywords_of(row)
    )
    assert found.backend == "numba-cuda"
    assert found.formulation == row.formulation
    kernel = {"": "gather_tiled", "atomic": "scatter_atomic", "tiles": "scatter_owned"}[row.variant]
    fused = "" if row.variant == "atomic" else "_relu"  # which applies it in a kernel of its own
    assert found.kernel == f"{row.name}: {kernel}_{dtype}_int32_8x8x8{fused}"
    assert found.workspace_bytes == (4 * 2 * 8 * 12 * 12 if (row.variant, dtype) == ("atomic", "float16") else 0)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("row", [row for row in ALL if row.values[0].operation != "forward"])
def test_explanations_of_the_gradients(row, dtype):
    found = gtc.explain(
        (2, 8, 18, 18), (8, 8, 4, 4), stride=2, padding=1, dtype=dtype, operation=row.operation, **keywords_of(row)
    )
    by_weight = {"": "weight_parts", "atomic": "weight_atomic", "tiles": "weight_owned"}
    by_x = {"": "gather_tiled", "atomic": "scatter_atomic", "tiles": "scatter_owned"}
    kernel = (by_weight if row.operation == "weight_grad" else by_x)[row.variant]
    assert found.kernel == f"{row.name}: {kernel}_{dtype}_int32_8x8x8"
    half, weights = dtype == "float16", 8 * 8 * 16
    assert found.workspace_bytes == {
        ("input_grad", "atomic"): 4 * 2 * 8 * 18 * 18 * half,
        ("weight_grad", ""): 4 * 2 * weights,  # 648 pixels in parts of at least 256
        ("weight_grad", "atomic"): 4 * weights * half,
        ("weight_grad", "tiles"): 4 * weights,
    }.get((row.operation, row.variant), 0)


def test_few_blocks_leave_a_large_device_idle():
    device = backend.current_device()._replace(multiprocessors=8)
    assert [choose.idle_ratio(blocks, device) for blocks in (0, 2, 8, 12)] == [1, 4, 1, 16 / 12]
