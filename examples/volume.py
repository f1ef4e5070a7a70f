"""Upsample a volume that is larger than the memory, from Zarr to Zarr, on a cluster of processes on this machine.

    python examples/volume.py [--quick]

The same lines run on any Dask cluster: give its address to `Client`.
"""

import shutil
import sys
import tempfile

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, progress

import gpu_transconv as gtc


def main():
    folder, size = tempfile.mkdtemp(), 32 if "--quick" in sys.argv else 256
    blocks = (1, 4, size // 2, size // 2, size // 2)
    weight = np.random.default_rng(0).standard_normal((4, 2, 2, 2, 2)).astype(np.float32)

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        da.random.random((1, 4, size, size, size), chunks=blocks).astype(np.float32).to_zarr(f"{folder}/small.zarr")

        small = da.from_zarr(f"{folder}/small.zarr")
        large = gtc.dask.conv_transpose(small, weight, stride=2, activation="relu")
        stored = large.to_zarr(f"{folder}/large.zarr", compute=False).persist()
        progress(stored, notebook=False)  # a bar, while it runs
        stored.compute()

        corner = da.from_zarr(f"{folder}/large.zarr")[..., :8, :8, :8].compute()
        expected = gtc.conv_transpose(small[..., :4, :4, :4].compute(), weight, stride=2, activation="relu")
    print(f"\n{small.shape} -> {large.shape} in {large.npartitions} chunks")
    assert np.abs(corner - expected).max() < 1e-5
    shutil.rmtree(folder)


if __name__ == "__main__":  # the workers are processes that import this file
    main()
