"""What plugins and gateways are tested with; shipped, so that users test with what the authors test with.

gateway(config)      a real gateway on free ports            demo_config(...)   a config to start from
scripted(script)     a real provider that does what it is told, byte by byte
MISBEHAVIOURS        scripts of all that providers do wrong, each saying what a gateway must do
drive(plugin, says("Hello"))    one call through a plugin, without a socket
check_plugin(check, Plugin, settings)   all that a plugin is held to, by each of PLUGIN_CHECKS
"""

from sidegate.testing.checking import PLUGIN_CHECKS, check_plugin
from sidegate.testing.drive import Driven, KeptEvents, drive, host, says
from sidegate.testing.misbehaviour import MISBEHAVIOURS, closed_port
from sidegate.testing.provider import Exchange, Script, ScriptedProvider, scripted
from sidegate.testing.running import KeptLog, Running, demo_config, gateway
from sidegate.testing.spoken import ScriptMaker, answering

__all__ = [
    "MISBEHAVIOURS",
    "PLUGIN_CHECKS",
    "Driven",
    "Exchange",
    "KeptEvents",
    "KeptLog",
    "Running",
    "Script",
    "ScriptMaker",
    "ScriptedProvider",
    "answering",
    "check_plugin",
    "closed_port",
    "demo_config",
    "drive",
    "gateway",
    "host",
    "says",
    "scripted",
]
