"""The command runs in a child of a small process that waits for it, so that no end of it is without a word.

A library that aborts, a decoder that crashes or the kernel that runs out of memory ends a process before Python can say
anything. The guardian imports nothing heavy, passes signals on and tells how its child ended. If it is killed itself,
the child goes with it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

__all__ = ["guarded"]

_PR_SET_PDEATHSIG = 1
_PASSED_ON = (signal.SIGINT, signal.SIGTERM)
_SENT_BY_PROCESS = 0  # SI_USER; what a terminal sends (SI_KERNEL) reaches the child by itself


def guarded(work: Callable[[], int], tell: Callable[[str, str], None]) -> int:
    """The exit code of ``work``, done in a child process; 2 after a word to ``tell`` where the child was killed.

    Args:
        work: the command; raises nothing.
        tell: takes a message and its remedy.
    """
    if sys.platform != "linux":  # no death signal, no sigwaitinfo
        return work()
    guardian = os.getpid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignores it would have ours reaped unseen
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [*_PASSED_ON, signal.SIGCHLD])
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return work() if os.getppid() == guardian else 1
    return _exit_code(_outlive(child), tell)


def _outlive(child: int) -> int:
    """Wait for the child and pass on what is sent to this process alone; the child's wait status."""
    while True:
        sent = signal.sigwaitinfo([*_PASSED_ON, signal.SIGCHLD])
        if sent.si_signo != signal.SIGCHLD:
            if sent.si_code <= _SENT_BY_PROCESS:
                os.kill(child, sent.si_signo)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)  # 0: it was only stopped, or goes on
        if ended:
            return status


def _exit_code(status: int, tell: Callable[[str, str], None]) -> int:
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    number = os.WTERMSIG(status)
    if number in _PASSED_ON:  # before the command could take care of it
        return 130
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    cause = "killed, mostly for lack of memory" if number == signal.SIGKILL else "a library gave up"
    remedy = "finished inputs are safe: raise the memory limit or use fewer --workers, and run the same command again"
    tell(f"the process was ended by {name} ({cause})", remedy)
    return 2
