"""What plugins and gateways are tested with; shipped, so that users test with what the authors test with.

gateway(config)      a real gateway on free ports            demo_config(...)   a config to start from
scripted(script)     a real provider that does what it is told, byte by byte
drive(plugin, says("Hello"))    one call through a plugin, without a socket
"""

from sidegate.testing.drive import Driven, KeptEvents, drive, host, says
from sidegate.testing.provider import Exchange, Script, ScriptedProvider, scripted
from sidegate.testing.running import KeptLog, Running, demo_config, gateway

__all__ = [
    "Driven",
    "Exchange",
    "KeptEvents",
    "KeptLog",
    "Running",
    "Script",
    "ScriptedProvider",
    "demo_config",
    "drive",
    "gateway",
    "host",
    "says",
    "scripted",
]
