"""The scripts that a proxy has seen: every shard has to know them, a restarted one as well.

A script's text comes with EVAL or SCRIPT LOAD, to whichever proxy; EVALSHA names it to any other, for any
shard. So on first sight of a text its proxy has every shard load it before it is run, and tells the other
proxies. Whoever knows it loads it onto a fresh process of a shard before anything else is sent there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proxy.interactive import CarriedScript, ScriptCall
from proxy.supervision import topic
from shardkv import control, limits
from shardkv.command import COMMANDS, Command
from shardkv.errors import CommandError
from shardkv.lua import sha1hex
from shardkv.lua.reach import reaches_only_its_keys
from shardkv.wire import RAW, pack_context

if TYPE_CHECKING:
    from proxy.backend import Backend
    from proxy.server import Proxy
    from proxy.session import Session
    from shardkv.plan import Call

_EVALUATE = frozenset({"eval", "eval_ro"})


def request_of(
    context: int, command: Command, args: Sequence[Any], slot: int, user: bytes | None
) -> list[Any]:
    """A client's request as the shard of its keys gets it. One that runs a script says whose rights limit
    that; `user` is None if nobody's do."""
    request = [context | command.code | slot, *args[1:]]
    if user is None or not command.runs_script:
        return request
    return [context | COMMANDS["actfor"].code | slot, user, [request]]


class Scripts:
    """Those of one proxy, by their text."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._evaluated: OrderedDict[bytes, None] = OrderedDict()
        """Those that came with EVAL, the one that has not been used for longest first."""
        self._loaded: dict[bytes, None] = {}
        self._loading: set[bytes] = set()
        self._contained: dict[bytes, bool] = {}
        """Of the scripts that are known, by text and by SHA1, whether they touch no keys but those that they
        are called with."""

    # -- what they may reach ----------------------------------------------------------------------

    def roams(self, command: Command, args: list[Any]) -> bool:
        """Whether a command runs a script that may touch keys of several shards."""
        if not command.runs_script:
            return False
        slot_table = self.proxy.slot_table
        shards = set(map(slot_table.__getitem__, command.route_slots(args)))
        return self.roams_from(shards, args)

    def roams_from(self, shards: set[int], args: list[Any]) -> bool:
        """The same for one that certainly runs a script, with its keys on these shards."""
        if len(self.proxy.backends) == 1:
            return False
        return len(shards) != 1 or not self._contained.get(args[1], False)

    def call(self, session: Session, command: Command, args: list[Any], slots: list[int]) -> Call:
        """How a script is carried out that roams; `slots` are those of its keys.

        One that touches no keys but its own is run as if all of them were on one shard, unless clients are
        told of changes or of what they have read, which would then come from the wrong shard or by another
        name, or the rights of its user limit it, so that its calls are not known beforehand.
        """
        proxy = self.proxy
        place = session.db, proxy.slot_table, len(proxy.backends), slots
        told = session.tracker is not None or proxy.config.notify_keyspace_events
        if slots and self._contained.get(args[1], False) and not told and session.acting is None:
            return CarriedScript(command, args, *place, context=session.context)
        return ScriptCall(command, args, *place, session.acting)

    def _study(self, body: bytes) -> None:
        if body not in self._contained:
            self._contained[body] = self._contained[sha1hex(body)] = reaches_only_its_keys(body)

    def _drop(self, body: bytes) -> None:
        self._contained.pop(body, None)
        self._contained.pop(sha1hex(body), None)

    # -- what clients send ------------------------------------------------------------------------

    def ready_for(self, command: Command, args: list[Any]) -> bool:
        """Whether a command of the group scripting can go to its shard now. If not, its session is called
        again when it can."""
        if command.name in _EVALUATE:
            return self._knows(args[1])
        if command.name == "script|load":
            self.remember(args[2], loaded=True)
            self._tell_others("remember script", [args[2], True])
        elif command.name == "script|flush":
            self.forget()
            self._tell_others("forget scripts", None)
        return True

    def _knows(self, body: bytes) -> bool:
        if body in self._evaluated:
            self._evaluated.move_to_end(body)
            return True
        if body in self._loaded:
            return True
        if len(self.proxy.backends) == 1:
            self.remember(body, loaded=False)
            self._tell_others("remember script", [body, False])
            return True
        if body not in self._loading:
            self._loading.add(body)
            self.proxy.start_task(self._load(body))
        return False

    async def _load(self, body: bytes) -> None:
        """Has every shard load a script. One that cannot be compiled is not remembered for long, but it is
        known not to be worth another try."""
        shards = 0
        while shards != len(self.proxy.backends):
            # Another may have been added meanwhile.
            shards = len(self.proxy.backends)
            values = await self.proxy.ask_shards("loadscript", body)
        self.remember(body, loaded=False)
        if not any(isinstance(value, CommandError) for value in values):
            self._tell_others("remember script", [body, False])
        self._loading.discard(body)
        self.proxy.look_around()

    def _tell_others(self, name: str, body: Any) -> None:
        if self.proxy.config.proxies > 1:
            self.proxy.supervision.ask(control.PROXIES, name, body)

    # -- what is known ----------------------------------------------------------------------------

    def remember(self, body: bytes, *, loaded: bool) -> None:
        """Keeps a script that every shard knows; those of SCRIPT LOAD until SCRIPT FLUSH."""
        self._study(body)
        if loaded:
            self._loaded[body] = None
            self._evaluated.pop(body, None)
        elif body not in self._loaded:
            self._evaluated[body] = None
            self._evaluated.move_to_end(body)
            if len(self._evaluated) > limits.SCRIPTS_REMEMBERED:
                self._drop(self._evaluated.popitem(last=False)[0])

    def forget(self) -> None:
        """Forgets all of them."""
        self._evaluated.clear()
        self._loaded.clear()
        self._contained.clear()

    def load_onto(self, backend: Backend) -> None:
        """Has a fresh process of a shard load all of them."""
        code = pack_context(0, RAW)
        for name, bodies in (("loadscript", self._evaluated), ("keepscript", self._loaded)):
            for body in bodies:
                self.proxy.tell(backend.shard, [code | COMMANDS[name].code, body])


@topic("remember script")
def _remember(proxy: Proxy, body: Any) -> None:
    """Keeps a script that another proxy has seen: its text, and whether it is to stay."""
    text, loaded = body
    proxy.scripts.remember(text, loaded=loaded)


@topic("forget scripts")
def _forget(proxy: Proxy, body: Any) -> None:
    proxy.scripts.forget()
