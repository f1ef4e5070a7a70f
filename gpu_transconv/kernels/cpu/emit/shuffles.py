"""Vectors mixed by shuffles, as LLVM IR: interleaved, thinned out, filled with one value."""

from __future__ import annotations

from llvmlite import ir

_I32 = ir.IntType(32)


def interleaved(builder, phases, lanes):
    """Vectors of the sequence phase 0 lane 0, phase 1 lane 0, ..., phase 0 lane 1, ..."""
    stride = len(phases)
    if stride == 1:
        return phases
    if stride % 2 == 0:  # the even and the odd phases alternate
        pairs = zip(interleaved(builder, phases[::2], lanes), interleaved(builder, phases[1::2], lanes), strict=True)
        order = [lane // 2 + lane % 2 * lanes for lane in range(2 * lanes)]
        halves = order[:lanes], order[lanes:]
        return [builder.shuffle_vector(even, odd, lane_numbers(half)) for even, odd in pairs for half in halves]
    mixed = []
    for v in range(stride):
        lane_and_phase = [divmod(v * lanes + i, stride) for i in range(lanes)]
        value = phases[0]
        indices = [lane if phase == 0 else 0 for lane, phase in lane_and_phase]
        value = builder.shuffle_vector(value, value, lane_numbers(indices))
        for r in range(1, stride):
            indices = [lanes + lane if phase == r else i for i, (lane, phase) in enumerate(lane_and_phase)]
            value = builder.shuffle_vector(value, phases[r], lane_numbers(indices))
        mixed.append(value)
    return mixed


def picked(builder, vectors, lanes, first):
    """Vector of every n-th element, from `first` on, of n vectors that follow each other."""
    count = len(vectors)
    if count > 1 and count % 2 == 0:  # every second element of pairs, and so on
        chosen = lane_numbers([2 * lane + first % 2 for lane in range(lanes)])
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        return picked(builder, [builder.shuffle_vector(*pair, chosen) for pair in pairs], lanes, first // 2)
    value = vectors[0]
    for v, part in enumerate(vectors if count > 1 else ()):
        places = [lane * count + first - v * lanes for lane in range(lanes)]
        taken = [lanes + at if 0 <= at < lanes else lane for lane, at in enumerate(places)]
        value = builder.shuffle_vector(value, part, lane_numbers(taken))
    return value


def lane_numbers(values):
    return ir.Constant(ir.VectorType(_I32, len(values)), values)


def splat(builder, value, lanes):
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    return builder.shuffle_vector(
        builder.insert_element(undefined, value, _I32(0)), undefined, lane_numbers([0] * lanes)
    )
