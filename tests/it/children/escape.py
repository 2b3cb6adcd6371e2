"""A step that does what it can to outlive its end: `escape.py WORD`. What it leaves is called `sleep WORD`."""

import os
import signal
import sys
import time

WORD = sys.argv[1]


def sleep_hidden():
    """Nothing of its origin is left: neither directory nor variables nor descriptors."""
    os.chdir("/")
    os.closerange(0, 64)
    os.execve("/bin/sleep", ["sleep", WORD], {})


def in_child(act):
    if os.fork() == 0:
        try:
            act()
        finally:
            os._exit(0)


def detached(act):
    """Two forks with a session between them: nobody's child, nobody's group."""

    def middle():
        os.setsid()
        in_child(act)

    in_child(middle)
    os.wait()


def breeder():
    """Goes on forking while it is being killed."""
    os.setsid()
    while True:
        try:
            in_child(lambda: (os.setsid(), sleep_hidden()))
        except OSError:
            pass
        time.sleep(0.002)


for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
in_child(sleep_hidden)
detached(sleep_hidden)
detached(lambda: (os.setsid(), sleep_hidden()))
in_child(breeder)
print("ready", flush=True)
while True:
    time.sleep(0.05)
