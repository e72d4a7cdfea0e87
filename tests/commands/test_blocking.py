"""Requests that wait on one shard: who is served when, what is logged, and how waiting ends."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from shardkv import errors, wire
from shardkv.command import COMMANDS, lookup
from shardkv.commands.waiting import ERROR, GONE, TIMEOUT
from shardkv.errors import CommandError
from shardkv.resp.replies import NULL_ARRAY, unpack_raw
from shardkv.slots import slot_of
from shardkv.transactions import Late
from tests.local import Local

T1, T2 = [0, 1001], [1, 1002]
"""Transactions."""


class Door:
    """The end of a proxy at a shard."""

    def __init__(self, local: Local, proxy: int = 0) -> None:
        self.local = local
        self.shard = local.shards[0]
        self.proxy = proxy
        self.late: list[Late] = []
        self._tickets = 0
        self._numbers = 0

    def next_ticket(self) -> int:
        self._tickets += 1
        return self._tickets - 1

    def ask(self, *words: Any, db: int = 0) -> Any:
        """The reply to a request; for one that has to wait, a Ticket."""
        args = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        command = lookup(args)
        assert command is not None
        request: list[Any] = list(args)
        number = 0
        if command.waits is not None and (timeout := command.waits.timeout(args)) is not None:
            self._numbers += 1
            number = request[timeout[0]] = self._numbers
        positions = command.key_positions(args)
        slot = slot_of(args[positions[0]]) if positions else 0
        request[0] = wire.pack_code(wire.pack_context(db, wire.RAW), command.id, slot)
        return self._run(request, number)

    def internal(self, name: str, *args: Any) -> Any:
        code = wire.pack_code(wire.pack_context(0, wire.RAW), COMMANDS[name].id, 0)
        return self._run([code, *args], 0)

    def _run(self, request: list[Any], number: int) -> Any:
        ticket = self._tickets
        [reply] = self.shard.run([request], self)
        return Ticket(self, ticket, number) if reply is None else unpack_raw(reply)

    def lock(
        self, transaction: list[int], *keys: bytes, exclusive: bool = True, several: bool = False
    ) -> Any:
        mode = [exclusive, False, False, False, several]
        return self.internal("prepare", transaction, mode, [[0, key] for key in keys], [], None, None)

    def release(self, transaction: list[int]) -> None:
        self.internal("release", transaction)

    def commit(self, transaction: list[int], *requests: list[bytes]) -> None:
        coded = []
        for words in requests:
            command = lookup(words)
            assert command is not None
            code = wire.pack_code(wire.pack_context(0, wire.RAW), command.id, slot_of(words[1]))
            coded.append([code, *words[1:]])
        self.internal("commit", transaction, coded)


class Ticket:
    """A request that has had to wait."""

    def __init__(self, door: Door, ticket: int, number: int) -> None:
        self.door = door
        self.ticket = ticket
        self.number = number

    @property
    def answered(self) -> bool:
        return any(late.ticket == self.ticket for late in self.door.late)

    @property
    def reply(self) -> Any:
        """Its late reply."""
        [late] = [late for late in self.door.late if late.ticket == self.ticket]
        return unpack_raw(late.reply) if late.reply else b""

    def withdraw(self, why: str) -> Any:
        return self.door.internal("withdraw", [self.door.proxy, self.number], why)


@pytest.fixture
def local() -> Local:
    return Local()


@pytest.fixture
def door(local: Local) -> Door:
    return Door(local)


# -- waiting and being served -------------------------------------------------------------------------


def test_data_that_is_there_is_given_at_once(door: Door) -> None:
    door.ask("RPUSH", "a", 1, 2)
    assert door.ask("BLPOP", "x", "a", 0) == [b"a", b"1"]
    assert not door.shard.observers


def test_first_come_first_served(door: Door) -> None:
    first, second = door.ask("BLPOP", "a", "b", 0), door.ask("BRPOP", "b", "a", 0)
    assert not first.answered
    door.ask("RPUSH", "b", 1)
    assert first.reply == [b"b", b"1"]
    assert not second.answered
    door.ask("RPUSH", "b", 2)
    assert second.reply == [b"b", b"2"]
    assert door.ask("EXISTS", "a", "b") == 0
    assert not door.shard.observers


def test_a_request_with_its_timeout_in_place_does_not_wait(local: Local, door: Door) -> None:
    assert local.call("BLPOP", "a", 0) is NULL_ARRAY
    assert local.call("BLMPOP", 0, 1, "a", "LEFT") is NULL_ARRAY
    assert local.call("BLMOVE", "a", "b", "LEFT", "LEFT", 0) is None
    assert local.call("BRPOPLPUSH", "a", "b", 0) is None
    assert local.call("BZPOPMIN", "a", 0) is NULL_ARRAY
    assert local.call("BZMPOP", 0, 1, "a", "MIN") is NULL_ARRAY
    assert local.call("XREAD", "BLOCK", 0, "STREAMS", "a", "$") is NULL_ARRAY
    assert not door.shard.serving.waiters


def test_nobody_waits_without_a_link(door: Door) -> None:
    code = wire.pack_code(wire.pack_context(0, wire.RAW), COMMANDS["blpop"].id, slot_of(b"a"))
    [reply] = door.shard.run([[code, b"a", 7]])
    assert reply is not None
    assert unpack_raw(reply) is NULL_ARRAY


def test_a_transaction_of_one_shard_does_not_wait_and_wakes_who_does(local: Local, door: Door) -> None:
    waiting = door.ask("BLPOP", "b", "a", 0)
    context = wire.pack_context(0, 2)
    requests = [[b"RPUSH", b"a", b"1"], [b"RPUSH", b"b", b"2"], [b"BLPOP", b"c", b"0"], [b"LLEN", b"a"]]
    coded = [
        [wire.pack_code(context, COMMANDS[words[0].decode().lower()].id, slot_of(words[1])), *words[1:]]
        for words in requests
    ]
    [reply] = door.shard.run([[context | COMMANDS["execute"].code, None, coded]], door)
    assert reply == b"*4\r\n:1\r\n:1\r\n*-1\r\n:1\r\n"
    assert waiting.reply == [b"b", b"2"]
    assert [words[0] for words in local.logged()] == [b"MULTI", b"RPUSH", b"RPUSH", b"EXEC", b"LPOP"]


def test_one_who_is_served_before_the_next_request(local: Local, door: Door) -> None:
    waiting = door.ask("BLPOP", "a", 0)
    context = wire.pack_context(0, wire.RAW)
    push, pop = (wire.pack_code(context, COMMANDS[name].id, slot_of(b"a")) for name in ("rpush", "lpop"))
    replies = door.shard.run([[push, b"a", b"1"], [pop, b"a"]], door)
    assert [unpack_raw(reply) for reply in replies if reply] == [1, None]
    assert waiting.reply == [b"a", b"1"]


def test_a_chain_of_moves(door: Door) -> None:
    last = door.ask("BLPOP", "c", 0)
    middle = door.ask("BLMOVE", "b", "c", "LEFT", "LEFT", 0)
    first = door.ask("BRPOPLPUSH", "a", "b", 0)
    door.ask("RPUSH", "a", "x")
    assert (first.reply, middle.reply, last.reply) == (b"x", b"x", [b"c", b"x"])


def test_an_error_ends_the_waiting(door: Door) -> None:
    waiting = door.ask("BLPOP", "s", "a", 0)
    door.ask("SET", "s", "x")
    assert not waiting.answered
    door.ask("RPUSH", "a", 1)
    assert waiting.reply == CommandError(errors.WRONG_TYPE)
    assert door.ask("LLEN", "a") == 1


def test_other_databases_do_not_count(door: Door) -> None:
    waiting = door.ask("BLPOP", "a", 0, db=1)
    door.ask("RPUSH", "a", 1)
    assert not waiting.answered
    door.ask("SWAPDB", 0, 1)
    assert waiting.reply == [b"a", b"1"]


def test_an_xread_sees_what_has_come_since_it_began(door: Door) -> None:
    door.ask("XADD", "a", "5-0", "f", "v")
    waiting = door.ask("XREAD", "BLOCK", 0, "STREAMS", "b", "a", "$", "$")
    door.ask("XADD", "a", "6-0", "f", "v")
    assert [key for key, _ in waiting.reply] == [b"a"]


def test_an_expired_stream_ends_the_waiting_of_its_groups(local: Local, door: Door) -> None:
    door.ask("XGROUP", "CREATE", "a", "g", "$", "MKSTREAM")
    door.ask("PEXPIRE", "a", 100)
    waiting = door.ask("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "a", ">")
    local.advance(200)
    assert door.ask("EXISTS", "a") == 0
    assert waiting.reply.text.startswith(b"NOGROUP ")


def test_many_clients_of_one_key(door: Door) -> None:
    waiting = [door.ask("BLPOP", "a", 0) for _ in range(10_000)]
    for number in range(10_000):
        door.ask("RPUSH", "a", number)
    assert [unpack_raw(late.reply)[1] for late in door.late] == [b"%d" % number for number in range(10_000)]
    assert [late.ticket for late in door.late] == [one.ticket for one in waiting]


# -- the log ------------------------------------------------------------------------------------------


def test_what_is_done_for_a_client_is_logged_behind_what_made_it_possible(local: Local, door: Door) -> None:
    door.ask("BLPOP", "a", 0)
    door.ask("BLMPOP", 0, 1, "b", "RIGHT", "COUNT", 5)
    door.ask("BZPOPMAX", "c", 0)
    door.ask("BLMOVE", "d", "e", "LEFT", "RIGHT", 0)
    door.ask("BRPOPLPUSH", "e", "f", 0)
    door.ask("RPUSH", "a", 1)
    door.ask("RPUSH", "b", 1, 2)
    door.ask("ZADD", "c", 1, "m")
    door.ask("RPUSH", "d", 1)
    assert [b" ".join(words) for words in local.logged()] == [
        b"RPUSH a 1",
        b"LPOP a",
        b"RPUSH b 1 2",
        b"RPOP b 2",
        b"ZADD c 1 m",
        b"ZPOPMAX c",
        b"RPUSH d 1",
        b"LMOVE d e LEFT RIGHT",
        b"RPOPLPUSH e f",
    ]


def test_a_transaction_is_whole_before_anybody_is_served(local: Local, door: Door) -> None:
    waiting = door.ask("BLPOP", "b", "a", 0)
    door.lock(T1, b"a", b"b")
    door.commit(T1, [b"RPUSH", b"a", b"1"], [b"RPUSH", b"b", b"2"])
    assert waiting.reply == [b"b", b"2"]
    names = [words[0] for words in local.logged()]
    assert names == [b"MULTI", b"RPUSH", b"RPUSH", b"EXEC", b"LPOP"]


def test_who_is_served_by_a_turn_that_cannot_be_logged_gets_the_error(door: Door) -> None:
    door.ask("BLPOP", "a", 0)
    door.ask("XREAD", "BLOCK", 0, "STREAMS", "s", 0)
    door.ask("RPUSH", "a", 1)
    door.ask("XADD", "s", "1-1", "f", "v")
    door.shard.refuse_writes(b"MISCONF x")
    popped, read = (unpack_raw(door.shard.refuse_late(late).reply) for late in door.late)
    assert popped == CommandError(b"MISCONF x")
    assert not isinstance(read, CommandError)


# -- how waiting ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "reply"), [(TIMEOUT, NULL_ARRAY), (ERROR, CommandError(errors.UNBLOCKED)), (GONE, b"")]
)
def test_withdrawn(door: Door, why: str, reply: Any) -> None:
    waiting = door.ask("BLPOP", "a", 0)
    assert waiting.withdraw(why) is True
    assert waiting.reply == reply
    assert waiting.withdraw(why) is False
    door.ask("RPUSH", "a", 1)
    assert door.ask("LLEN", "a") == 1


def test_nobody_is_withdrawn_who_has_been_served(door: Door) -> None:
    waiting = door.ask("BLPOP", "a", 0)
    door.ask("RPUSH", "a", 1)
    assert waiting.withdraw(TIMEOUT) is False
    assert waiting.reply == [b"a", b"1"]


def test_withdrawn_while_the_key_is_locked(door: Door) -> None:
    door.lock(T1, b"a")
    waiting = door.ask("BLPOP", "a", 0)
    assert waiting.withdraw(TIMEOUT) is True
    assert waiting.reply is NULL_ARRAY
    door.commit(T1, [b"RPUSH", b"a", b"1"])
    assert door.ask("LLEN", "a") == 1


def test_a_proxy_that_is_gone_takes_its_clients_along(local: Local, door: Door) -> None:
    other = Door(local, proxy=1)
    gone, stays = other.ask("BLPOP", "a", 0), door.ask("BLPOP", "a", 0)
    door.shard.transactions.forget_proxy(1)
    door.ask("RPUSH", "a", 1)
    assert not gone.answered
    assert stays.reply == [b"a", b"1"]


# -- locks --------------------------------------------------------------------------------------------


def test_a_request_that_came_to_a_locked_key_waits_for_data_afterwards(door: Door) -> None:
    door.lock(T1, b"a")
    waiting = door.ask("BLPOP", "a", 0)
    door.release(T1)
    assert not waiting.answered
    assert len(door.shard.serving.waiters) == 1
    door.ask("RPUSH", "a", 1)
    assert waiting.reply == [b"a", b"1"]


def test_who_waits_for_a_locked_key_as_well_is_served_when_it_is_unlocked(door: Door) -> None:
    waiting, behind = door.ask("BLPOP", "b", "a", 0), door.ask("BLPOP", "a", 0)
    door.lock(T1, b"b")
    door.ask("RPUSH", "a", 1, 2)
    assert not waiting.answered
    assert not behind.answered, "it would have overtaken"
    door.release(T1)
    assert (waiting.reply, behind.reply) == ([b"a", b"1"], [b"a", b"2"])


def test_who_waits_comes_before_requests_that_only_waited_for_the_lock(door: Door) -> None:
    waiting = door.ask("BLPOP", "a", 0)
    door.lock(T1, b"a")
    pop = door.ask("LPOP", "a")
    door.commit(T1, [b"RPUSH", b"a", b"1"])
    assert waiting.reply == [b"a", b"1"]
    assert pop.reply is None


# -- offers -------------------------------------------------------------------------------------------


def enlist(door: Door, transaction: list[int], *keys: bytes) -> Any:
    return door.internal("enlist", transaction, "blpop", [[key] for key in keys])


def test_an_offer_is_kept_for_whom_it_was_made(local: Local, door: Door) -> None:
    other = Door(local, proxy=1)
    first, second = enlist(door, T1, b"x", b"a"), other.ask("BLPOP", "a", 0)
    other.ask("RPUSH", "a", 1, 2)
    assert first.reply == b"a"
    assert not second.answered
    thief = other.ask("LPOP", "a")
    assert isinstance(thief, Ticket)
    door.commit(T1, [b"LPOP", b"a"])
    assert second.reply == [b"a", b"2"]
    assert thief.reply is None


def test_an_offer_that_is_given_back_goes_to_the_next(local: Local, door: Door) -> None:
    first, second = enlist(door, T1, b"a"), enlist(Door(local, proxy=1), T2, b"a")
    door.ask("RPUSH", "a", 1)
    assert first.reply == b"a"
    assert not second.answered
    door.internal("withdraw", T1, GONE)
    assert second.reply == b"a"


def test_what_is_there_is_offered_at_once(door: Door) -> None:
    door.ask("RPUSH", "a", 1)
    assert enlist(door, T1, b"x", b"a") == b"a"
    door.release(T1)
    assert not door.shard.locks


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_is_there_but_locked_is_offered_when_it_is_unlocked(door: Door, exclusive: bool) -> None:
    door.ask("RPUSH", "a", 1)
    door.lock(T2, b"a", exclusive=exclusive)
    waiting = enlist(door, T1, b"a")
    assert isinstance(waiting, Ticket)
    door.ask("SET", "other", 1)
    assert not waiting.answered
    door.release(T2)
    assert waiting.reply == b"a"


def test_an_offer_comes_before_requests_that_only_waited_for_the_lock(door: Door) -> None:
    waiting = enlist(door, T1, b"a")
    door.lock(T2, b"a")
    pop = door.ask("LPOP", "a")
    door.commit(T2, [b"RPUSH", b"a", b"1"])
    assert waiting.reply == b"a"
    assert not pop.answered
    door.commit(T1, [b"LPOP", b"a"])
    assert pop.reply is None


def test_readers_of_streams_need_no_offer_of_their_own(local: Local, door: Door) -> None:
    tickets = [door.internal("enlist", owner, "xread", [[b"a", b"0-0"]]) for owner in (T1, T2)]
    door.ask("XADD", "a", "1-1", "f", "v")
    assert [ticket.reply for ticket in tickets] == [b"a", b"a"]
    assert not door.shard.locks


def test_a_dead_proxy_keeps_no_offer(local: Local, door: Door) -> None:
    other = Door(local, proxy=1)
    offered, waiting = enlist(other, T2, b"a"), enlist(door, T1, b"a")
    door.ask("RPUSH", "a", 1)
    assert offered.reply == b"a"
    door.shard.transactions.forget_proxy(1)
    assert waiting.reply == b"a"


def test_replies_are_in_the_protocol_of_the_client(door: Door) -> None:
    for protocol, expected in ((2, [b"z", b"m", b"1.5"]), (3, [b"z", b"m", 1.5])):
        code = wire.pack_code(wire.pack_context(0, protocol), COMMANDS["bzpopmin"].id, slot_of(b"z"))
        door.shard.run([[code, b"z", 99]], door)
        door.ask("ZADD", "z", 1.5, "m")
        reader = hiredis.Reader()
        reader.feed(door.late[-1].reply)
        assert reader.gets() == expected


def test_what_is_made_of_several_commands_does_not_get_a_key_that_somebody_waits_for(door: Door) -> None:
    assert door.lock(T1, b"b", several=True) == []
    door.release(T1)
    door.ask("BLPOP", "a", 0)
    assert door.lock(T1, b"b", b"a", several=True) is None
    assert not door.shard.locks
    assert door.lock(T1, b"b", several=True) == []
    assert door.lock(T2, b"a") == []
