"""A Ray cluster as the place of a run.

::

    settings.py   what a user chooses
    place.py      the cluster as a place of runs: who computes, with which encoder
    driver.py     a run: keeps everything that decides, gives sources out, takes what is finished
    leases.py     which actor has which source (state; knows nothing of Ray)
    members.py    the actors that work, and those that are gone
    cluster.py    the only file that calls Ray
    station.py    inside an actor: the engine of ``umedfeat.engine.local``, fed with leases
    outbox.py     what an actor has done and the driver does not know yet
    messages.py   what crosses between driver and actors

Actors hold nothing that cannot be lost: the driver gives a dead one's sources to others. The key of the pseudonyms
never leaves the driver. Neither code nor images are uploaded: every node has the same version installed, and mounts the
same paths.
"""
