"""HyperLogLogs: how many different elements were seen, in 12 KB at most and with an error of 0.8%."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from shardkv import errors
from shardkv.command import ADMIN, DENYOOM, FAST, READONLY, WRITE, Key, command
from shardkv.commands.strings import growing
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.plan import Call, Plan, Read, Write, check
from shardkv.resp.replies import OK, Status
from shardkv.structures import hyperloglog


def _edit(db: Database, key: bytes, slot: int = -1) -> bytearray | None:
    """A key's HyperLogLog, for change in place. Raises CommandError if it holds something else."""
    old = db.edit_string(key, slot)
    if old is None:
        return None
    hyperloglog.check(old)
    return growing(db, key, slot, old)


def _merged(db: Database, keys: Iterable[bytes]) -> tuple[bool, bytes]:
    """Whether any of the keys holds a dense one, and the registers of all together."""
    found = [value for key in keys if (value := db.read_string(key)) is not None]
    dense = False
    parts = []
    for value in found:
        hyperloglog.check(value)
        dense = dense or hyperloglog.is_dense(value)
        parts.append(hyperloglog.registers(value))
    return dense, hyperloglog.merged(parts)


# -- adding -----------------------------------------------------------------------------------


@command(
    "PFADD key [element [element ...]]",
    group="hyperloglog",
    since="2.8.9",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW INSERT"),),
    complexity="O(1) to add every element.",
)
def pfadd(db: Database, args: list[Any]) -> Any:
    """Adds elements to a HyperLogLog key. Creates the key if it doesn't exist."""
    slot, key, *elements = args
    most = db.shard.config.hll_sparse_max_bytes
    value = _edit(db, key, slot)
    if value is None:
        value = hyperloglog.new()
        for element in elements:
            hyperloglog.add(value, element, most)
        db.put(key, value, "pfadd", slot)
        return 1
    before = None if hyperloglog.is_dense(value) else bytes(value)
    changed = False
    try:
        for element in elements:
            if hyperloglog.add(value, element, most):
                changed = True
    except CommandError:
        # Only a sparse one can turn out to be corrupted. Nothing of the elements before that is to stay.
        assert before is not None
        value[:] = before
        raise
    if not changed:
        return 0
    hyperloglog.outdate(value)
    db.changed(key, "pfadd")
    return 1


# -- several HyperLogLogs ---------------------------------------------------------------------


@command(
    "PFREGISTERS key [key ...]",
    group="hyperloglog",
    since="0.1.0",
    flags=READONLY,
    keys=(Key(1, last=-1),),
    internal=True,
)
def pfregisters(db: Database, args: list[Any]) -> Any:
    """Returns whether any of the keys holds a dense HyperLogLog, and the registers of all merged."""
    return _merged(db, args[1:])


@command(
    "PFRAISE key dense registers",
    group="hyperloglog",
    since="0.1.0",
    flags=WRITE,
    keys=(Key(1),),
    internal=True,
)
def pfraise(db: Database, args: list[Any]) -> Any:
    """Merges registers into the HyperLogLog of a key, as PFMERGE does."""
    key, dense, registers = args[1:]
    value = _raise(db, key, dense, registers)
    db.shard.propagate(db, b"SET", key, bytes(value), b"KEEPTTL")
    return OK


def _raise(db: Database, key: bytes, dense: bool, registers: bytes) -> bytearray:
    most = db.shard.config.hll_sparse_max_bytes
    value = _edit(db, key)
    if value is None:
        value = hyperloglog.new()
        hyperloglog.raise_registers(value, registers, dense, most)
        db.put(key, value, "pfadd")
    else:
        hyperloglog.raise_registers(value, registers, dense, most)
        hyperloglog.outdate(value)
        db.changed(key, "pfadd")
    return value


def _read_parts(call: Call) -> Read:
    args = call.args
    return Read(
        {
            shard: [[b"PFREGISTERS", *(args[at] for at in positions)]]
            for shard, positions in call.positions.items()
        }
    )


def _plan_pfcount(call: Call) -> Plan:
    values = yield _read_parts(call)
    check(values)
    return hyperloglog.estimate(hyperloglog.merged(registers for [(_, registers)] in values.values()))


@command(
    "PFCOUNT key [key ...]",
    group="hyperloglog",
    since="2.8.9",
    flags=READONLY,
    keys=(
        Key(
            1,
            last=-1,
            access="RW ACCESS",
            notes="RW because it may change the internal representation of the key, and propagate to "
            "replicas",
        ),
    ),
    complexity="O(1) with a very small average constant time when called with a single key. O(N) with N "
    "being the number of keys, and much bigger constant times, when called with multiple "
    "keys.",
    plan=_plan_pfcount,
)
def pfcount(db: Database, args: list[Any]) -> Any:
    """Returns the approximated cardinality of the set(s) observed by the HyperLogLog key(s)."""
    if len(args) > 2:
        return hyperloglog.estimate(_merged(db, args[1:])[1])
    value = db.read_string(args[1])
    if value is None:
        return 0
    hyperloglog.check(value)
    # Redis puts the estimate into the string. Here a command that looks changes nothing, not even that.
    return hyperloglog.count(value)


def _plan_pfmerge(call: Call) -> Plan:
    values = yield _read_parts(call)
    check(values)
    parts = [part for [part] in values.values()]
    dense = any(dense for dense, _ in parts)
    registers = hyperloglog.merged(registers for _, registers in parts)
    destination = call.args[1]
    check((yield Write({call.shard_of(destination): [[b"PFRAISE", destination, dense, registers]]})))
    return OK


@command(
    "PFMERGE destkey [sourcekey [sourcekey ...]]",
    group="hyperloglog",
    since="2.8.9",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="RW ACCESS INSERT"), Key(2, last=-1)),
    complexity="O(N) to merge N HyperLogLogs, but with high constant times.",
    plan=_plan_pfmerge,
)
def pfmerge(db: Database, args: list[Any]) -> Any:
    """Merges one or more HyperLogLog values into a single key."""
    dense, registers = _merged(db, args[1:])
    _raise(db, args[1], dense, registers)
    return OK


# -- looking inside ---------------------------------------------------------------------------


def _encoding(db: Database, key: bytes, value: bytearray) -> Status:
    return Status(b"dense" if hyperloglog.is_dense(value) else b"sparse")


def _decode(db: Database, key: bytes, value: bytearray) -> bytes:
    if hyperloglog.is_dense(value):
        raise CommandError(errors.NOT_SPARSE)
    words = (
        f"v:{run},{length}" if letter == "v" else f"{letter}:{length}"
        for letter, run, length in hyperloglog.opcodes(value)
    )
    return " ".join(words).encode()


def _todense(db: Database, key: bytes, value: bytearray) -> int:
    if hyperloglog.is_dense(value):
        return 0
    hyperloglog.make_dense(value)
    db.changed(key, "pfdebug")
    return 1


def _getreg(db: Database, key: bytes, value: bytearray) -> list[int]:
    _todense(db, key, value)
    return list(hyperloglog.registers(value))


_PFDEBUG: dict[bytes, Callable[[Database, bytes, bytearray], Any]] = {
    b"ENCODING": _encoding,
    b"DECODE": _decode,
    b"TODENSE": _todense,
    b"GETREG": _getreg,
}


@command(
    "PFDEBUG subcommand key",
    group="hyperloglog",
    since="2.8.9",
    flags=WRITE | DENYOOM | ADMIN,
    keys=(Key(2, access="RW ACCESS"),),
    complexity="N/A",
)
def pfdebug(db: Database, args: list[Any]) -> Any:
    """Internal commands for debugging HyperLogLog values."""
    subcommand, key = args[1:]
    value = _edit(db, key)
    if value is None:
        raise CommandError(errors.NO_SPECIFIED_KEY)
    carry_out = _PFDEBUG.get(subcommand.upper())
    if carry_out is None:
        raise CommandError(errors.unknown_pfdebug_subcommand(subcommand))
    return carry_out(db, key, value)


# -- the self-test ----------------------------------------------------------------------------

_TEST_ELEMENTS = 1000
_TEST_STEP = 100
"""What both encodings say is compared so often: the test must not hold up the shard's clients."""

_NEVER_DENSE = hyperloglog.REGISTERS * 2
"""More bytes than a sparse one can take."""

_MOST_ERROR = 0.05
"""The standard error with so many registers is 0.8%, and far less with so few elements."""


def _self_test() -> None:
    """Shows the same elements to a sparse and a dense HyperLogLog and to two that share them, and compares
    what all of them say. Raises CommandError if they differ, or are far from the truth."""
    sparse, dense, odd, even = hyperloglog.new(), hyperloglog.new(), hyperloglog.new(), hyperloglog.new()
    hyperloglog.make_dense(dense)
    for number in range(1, _TEST_ELEMENTS + 1):
        element = b"element:%d" % number
        hyperloglog.add(odd if number % 2 else even, element, _NEVER_DENSE)
        if hyperloglog.add(sparse, element, _NEVER_DENSE) != hyperloglog.add(dense, element, _NEVER_DENSE):
            raise CommandError(errors.self_test_failed(b"the encodings take an element differently"))
        if number % _TEST_STEP:
            continue
        registers = hyperloglog.registers(dense)
        if registers != hyperloglog.registers(sparse):
            raise CommandError(errors.self_test_failed(b"the encodings hold different registers"))
        if registers != hyperloglog.merged(map(hyperloglog.registers, (odd, even))):
            raise CommandError(errors.self_test_failed(b"a union has other registers than its whole"))
        if abs(hyperloglog.estimate(registers) - number) > _MOST_ERROR * number:
            raise CommandError(errors.self_test_failed(b"an estimate is far from the truth"))


def _plan_self_test(call: Call) -> Plan:
    values = yield Read({0: [[b"PFSELFTEST"]]})
    check(values)
    return OK


@command(
    "PFSELFTEST",
    group="hyperloglog",
    since="2.8.9",
    flags=ADMIN,
    complexity="N/A",
    plan=_plan_self_test,
)
def pfselftest(db: Database, args: list[Any]) -> Any:
    """An internal command for testing HyperLogLog values."""
    _self_test()
    return OK
