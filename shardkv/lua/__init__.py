"""Lua scripts, as Redis runs them: an engine without a server."""

from shardkv.lua.api import REPL_ALL, REPL_AOF, Host, sha1hex
from shardkv.lua.engine import Engine, Function, Library, Script
from shardkv.lua.shebang import ScriptFlag, read_library

__all__ = [
    "REPL_ALL",
    "REPL_AOF",
    "Engine",
    "Function",
    "Host",
    "Library",
    "Script",
    "ScriptFlag",
    "read_library",
    "sha1hex",
]
