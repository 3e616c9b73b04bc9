"""The engine between readers and file: plans ahead, fills batches across sources, keeps the encoder busy.

::

    loop.py       the run: hand out, receive, encode, scatter, finish
    batching.py   rows that wait, batches that cross sources
    pool.py       worker processes; a death costs one source
    worker.py     inside a worker: plan and read (no torch, so this file imports nothing)
    child.py      how a child process lives and dies
    slots.py      shared memory for pixels
    buffers.py    features of unfinished sources
    verdict.py    is a finished source good enough?
    device.py     one device, in this process
    device_pool.py, device_worker.py   several devices, a process each
    embed.py      pixels to vectors on one device: upload ahead, back off where memory runs out
    seconds.py    where the time went
"""
