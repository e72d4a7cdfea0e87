"""REBALANCE: slots are moved so that all shards bear about the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.commands.config import check_move
from shardkv import control, errors
from shardkv.command import ADMIN, NO_MULTI, NOSCRIPT, Place, command
from shardkv.errors import CommandError

if TYPE_CHECKING:
    from proxy.session import Session

_FIELDS = ("slots", "bytes", "requests", "slots-after", "bytes-after", "requests-after")


@command(
    "REBALANCE [DRYRUN]",
    group="server",
    since="0.1.0",
    flags=ADMIN | NOSCRIPT | NO_MULTI,
    complexity="O(N) where N is the number of keys, in slices",
    place=Place.PROXY,
)
async def rebalance(session: Session, args: list[Any]) -> Any:
    """Moves slots between shards so that each has about as much memory and as many requests."""
    only_shown = [word.upper() for word in args[1:]] == [b"DRYRUN"]
    if len(args) > 1 and not only_shown:
        raise CommandError(errors.SYNTAX)
    check_move(session.proxy.config)
    supervision = session.proxy.supervision
    answers = await supervision.ask(control.WORKERS, control.SLOT_COSTS)
    costs = [cost for _, _, found in answers for cost in found or ()]
    if len(answers) < len(session.proxy.backends) or any(found is None for _, _, found in answers):
        raise CommandError(errors.SHARDS_NOT_THERE)
    [(_, _, outcome)] = await supervision.ask(control.SUPERVISOR, "rebalance", [costs, only_shown])
    if outcome is None:
        raise CommandError(errors.SLOTS_ARE_MOVING)
    return [dict(zip(map(str.encode, _FIELDS), figures, strict=True)) for figures in outcome]
