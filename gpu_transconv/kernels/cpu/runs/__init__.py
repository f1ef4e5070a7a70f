"""Gather in runs of blocks: blocks of output positions, flattened over batch and space, times all channels.

1. `run_partition`: how long the runs are, and how they and the chunks of channels are shared out (`shares`).
2. `slabs`: what a run multiplies with one panel. 3. `pack_input`: the input brought into a panel.
4. `gather`: the kernel. Channels last it reads and writes pixels where they lie, by lists (`in_place`), and stores what
   belongs to several chunks `later`, when a whole line of memory is there.
"""
