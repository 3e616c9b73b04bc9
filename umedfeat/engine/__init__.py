"""The engine between readers and file: plans ahead, fills batches across sources, keeps the encoder busy.

::

    loop.py        the run: hand out, receive, encode, scatter, finish
    supply.py      where its sources come from; staging.py brings those at URLs here first
    batching.py    rows that wait, batches that cross sources
    buffers.py     features of unfinished sources
    verdict.py     is a finished source good enough?
    device.py      one device, in this process
    embed.py       pixels to vectors on one device: upload ahead, back off where memory runs out
    seconds.py     where the time went
    protocols.py   what a run works with, and the place where it computes; messages.py: what they say to each other
    local/         this machine as such a place: reading processes, devices, shared memory
    ray/           a cluster as such a place: the same engine in every actor, everything that decides in the driver
"""
