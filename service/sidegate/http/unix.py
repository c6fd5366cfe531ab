"""Unix sockets: taking the place of one whose gateway is gone, never of one that lives, and leaving nothing behind."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sidegate.errors import ConfigError
from sidegate.settings.listeners import UnixSocket

BACKLOG = 1024
LONGEST = 107 if sys.platform == "linux" else 103
"""Bytes of a path, by `struct sockaddr_un`, which has room for its closing zero besides."""

_LOCK_SECONDS = 5.0
_GONE = frozenset({errno.ECONNREFUSED, errno.ENOENT})


class UnixListening:
    """A bound socket, and the file by which it is reached."""

    def __init__(self, made: socket.socket, path: str) -> None:
        self.socket = made
        self.path = path
        self._identity = _identity(os.lstat(path))

    def remove(self) -> None:
        """Remove the file, if it is still this socket's; before the socket is closed, lest its number is another's."""
        with suppress(OSError), _alone(self.path):
            self.unlink()

    def unlink(self) -> None:
        """The same for whoever has the folder to itself."""
        if _identity(os.lstat(self.path)) == self._identity:
            os.unlink(self.path)


def check(unix: UnixSocket, place: str) -> None:
    """What can be said without binding. Raises `ConfigError`."""
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError(place, "this system has no Unix sockets")
    try:
        path = os.fsencode(unix.path)
    except ValueError:
        raise ConfigError(f"{place}.path", "is no path that a system could have") from None
    if len(path) > LONGEST:
        raise ConfigError(f"{place}.path", f"is longer than the {LONGEST} bytes that the path of a socket may have")
    _user(unix, place)
    _group(unix, place)


def bind(unix: UnixSocket, place: str) -> UnixListening:
    """Listen. Whoever connects before the rights are set is refused. Raises `ConfigError`."""
    check(unix, place)
    try:
        with _alone(unix.path):
            _clear(unix.path, f"{place}.path")
            return _bound(unix, place)
    except OSError as error:
        reason = error.strerror or "cannot bind"
        raise ConfigError(f"{place}.path", f"cannot listen on {unix.path}: {reason}") from error


def _bound(unix: UnixSocket, place: str) -> UnixListening:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind_closed(made, unix.path)
        listening = UnixListening(made, unix.path)
    except BaseException:
        made.close()
        raise
    try:
        _give(unix, place)
        made.listen(BACKLOG)
        made.setblocking(False)
    except BaseException:
        with suppress(OSError):
            listening.unlink()
        made.close()
        raise
    return listening


def _bind_closed(made: socket.socket, path: str) -> None:
    """Nobody may connect to what this makes. On Linux the file gets the rights of the socket itself, so that the
    umask, which is every thread's, need not be touched."""
    if sys.platform == "linux":
        os.fchmod(made.fileno(), 0)
        made.bind(path)
        return
    before = os.umask(0o777)
    try:
        made.bind(path)
    finally:
        os.umask(before)


def _give(unix: UnixSocket, place: str) -> None:
    """First to its owner, then the rights: nobody has more in between."""
    user, group = _user(unix, place), _group(unix, place)
    if (user, group) != (-1, -1):
        try:
            os.chown(unix.path, user, group, follow_symlinks=False)
        except OSError as error:
            what = "owner" if user != -1 else "group"
            raise ConfigError(f"{place}.{what}", f"cannot give the socket away: {error.strerror}") from error
    os.chmod(unix.path, int(unix.mode, 8))


def _clear(path: str, place: str) -> None:
    """Remove a socket on which nobody answers. Anything else stays, and the start fails."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(place, f"{path} is there already and is no socket: it is left alone")
    code = _answer(path)
    if code in (0, errno.EAGAIN):
        raise ConfigError(place, f"cannot listen on {path}: another process does")
    if code not in _GONE:
        raise ConfigError(place, f"{path} is there already, and may be in use: {os.strerror(code)}")
    with suppress(FileNotFoundError):
        os.unlink(path)


def _answer(path: str) -> int:
    """What `connect` says: 0 where somebody listens, EAGAIN where many wait for somebody who does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        return asking.connect_ex(path)


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """No other gateway looks at this folder meanwhile: two that start at once would each find nobody, and the second
    would remove what the first has just bound."""
    try:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        # It may be entered and not be read.
        yield
        return
    try:
        _lock(folder)
        yield
    finally:
        os.close(folder)


def _lock(folder: int) -> None:
    """It is held for a moment only; whoever holds it longer is no gateway, and no reason to wait for ever. A file
    system that knows no such locks does without."""
    import fcntl

    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise OSError(errno.EAGAIN, "its folder is locked by another process") from None
        except OSError:
            return None
        time.sleep(0.01)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _user(unix: UnixSocket, place: str) -> int:
    """The uid; -1 for what it is anyway."""
    if not isinstance(unix.owner, str):
        return -1 if unix.owner is None else unix.owner
    import pwd

    try:
        return pwd.getpwnam(unix.owner).pw_uid
    except KeyError:
        raise ConfigError(f"{place}.owner", f"no user is named `{unix.owner}`") from None


def _group(unix: UnixSocket, place: str) -> int:
    if not isinstance(unix.group, str):
        return -1 if unix.group is None else unix.group
    import grp

    try:
        return grp.getgrnam(unix.group).gr_gid
    except KeyError:
        raise ConfigError(f"{place}.group", f"no group is named `{unix.group}`") from None
