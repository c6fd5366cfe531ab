"""Where the gateway listens: TCP, TLS, Unix sockets, and what may stand of them in a config."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, ClassVar, Literal

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import force_setattr

from sidegate.cors import Cors
from sidegate.settings.strict import Strict

Port = Annotated[int, Meta(ge=0, le=65_535)]
Owner = Annotated[int, Meta(ge=0, le=2**32 - 2)] | Annotated[str, Meta(min_length=1, max_length=256)]


class Tls(Strict, frozen=True, kw_only=True):
    """How a listener speaks TLS: 1.2 or 1.3. Paths are relative to the config file."""

    certificate: Annotated[
        str, Meta(min_length=1, description="File of the certificate, PEM, with those that lead to its authority.")
    ]
    key: Annotated[str, Meta(description="File of its private key, PEM, not encrypted; `certificate` if empty.")] = ""
    client_ca: Annotated[str, Meta(description="File of the authorities whose client certificates count, PEM.")] = ""
    client_certificates: Annotated[
        Literal["off", "optional", "required"],
        Meta(description="Whether clients are asked for one; required: without one no connection."),
    ] = "off"
    reload: Annotated[
        float,
        Meta(ge=0, le=86_400, description="Seconds between looks at whether these files have changed; 0: never."),
    ] = 5.0

    def __post_init__(self) -> None:
        if (self.client_certificates == "off") is bool(self.client_ca):
            raise ValueError("`client_ca`, and `client_certificates` other than `off`, need each other")


class UnixSocket(Strict, frozen=True, kw_only=True):
    """A Unix socket: a file by which programs on this machine call, and by whose rights they may."""

    path: Annotated[
        str, Meta(min_length=1, description="The file, relative to the config file; its folder must be there.")
    ]
    mode: Annotated[
        str,
        Meta(pattern=r"^0?[0-7]{3}$", description="Its rights, octal, in quotes; who may write to it may call."),
    ] = "0600"
    owner: Annotated[
        Owner | None, Meta(description="Whose it is, by name or uid; who runs the gateway if left out.")
    ] = None
    group: Annotated[Owner | None, Meta(description="Of which group, by name or gid; as a new file if left out.")] = (
        None
    )

    def __post_init__(self) -> None:
        if self.path.startswith("@") or "\0" in self.path:
            raise ValueError("`path`: sockets without a file (abstract ones) are not offered: anybody could call")


class Listener(Strict, frozen=True, kw_only=True):
    """Where the gateway listens."""

    default_port: ClassVar[int] = 8080

    host: Annotated[str, Meta(min_length=1, description="Address to bind; loopback unless others must reach it.")] = (
        "127.0.0.1"
    )
    port: Annotated[
        Port | UnsetType,
        Meta(description="TCP port; 0 takes a free one. Left out: 8080, or no TCP at all where there is `unix`."),
    ] = UNSET
    tls: Annotated[Tls | None, Meta(description="Speak TLS on TCP; plain HTTP if left out.")] = None
    unix: Annotated[UnixSocket | None, Meta(description="A Unix socket to listen on, besides TCP or alone.")] = None

    def __post_init__(self) -> None:
        if self.port is not UNSET:
            return
        if self.unix is None:
            force_setattr(self, "port", self.default_port)
        elif self.host != "127.0.0.1" or self.tls is not None:
            raise ValueError("`host` and `tls` are of TCP: say its `port`, or leave them out")

    @property
    def tcp(self) -> int | None:
        """The port; `None` where it does not listen on TCP."""
        return None if self.port is UNSET else self.port

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.tcp is None or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


class CallListener(Listener, frozen=True, kw_only=True):
    """Where clients call."""

    cors: Annotated[
        Cors | None, Meta(description="Lets pages of other origins call, from browsers; null for none.")
    ] = None
    openapi: Annotated[
        bool, Meta(description="Describe itself at `/openapi.json`, to whoever asks, without a key.")
    ] = False


class Admin(Listener, frozen=True, kw_only=True):
    """Where it is administered. `/metrics` and health need no key, all else does, unless only this machine gets in."""

    default_port: ClassVar[int] = 8081

    port: Annotated[
        Port | UnsetType,
        Meta(description="TCP port; 0 takes a free one. Left out: 8081, or no TCP at all where there is `unix`."),
    ] = UNSET
    key: Annotated[
        str, Meta(description="Of whoever administers, as `Authorization: Bearer KEY`; `${NAME}` or `key_file`.")
    ] = ""
    key_file: Annotated[str, Meta(description="A file that holds the key.")] = ""
    without_key: Annotated[
        Literal["refuse", "metrics"],
        Meta(description="Without a key, where others can reach it: no start, or `/metrics` and health alone."),
    ] = "refuse"
    names: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...],
        Meta(description="Further names that requests may call this machine by, where it listens on loopback."),
    ] = ()
    trails: Annotated[
        int, Meta(ge=0, le=10_000, description="Calls of which it is remembered what each plugin did; 0: none.")
    ] = 200
