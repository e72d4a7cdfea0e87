"""The number of workers is another one than before: at a start, and while clients are served."""

from __future__ import annotations

import select
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from proxy.cli import main
from shardkv.slots import even_slot_table, slot_of
from tests.processes.server import Shardkv, eventually, on_proxy, shardkv
from tests.twin.compare import parsed

LIBRARY = "#!lua name=lib\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)"


def settled(server: Shardkv, shards: int) -> bool:
    """Whether there are so many shards, with equally many slots."""
    found = server.info("shards")
    lines = [line for name, line in found.items() if name.removeprefix("shard").isdigit()]
    slots = [int(line.partition("slots=")[2].partition(",")[0]) for line in lines]
    return len(slots) == shards and max(slots) - min(slots) <= 1


def fill(client: redis.Redis) -> None:
    """Some of everything."""
    pipeline = client.pipeline(transaction=False)
    for number in range(300):
        pipeline.set(f"string:{number}", number)
        pipeline.set(f"timed:{number}", number, pxat=4_000_000_000_000 + number)
    for number in range(20):
        pipeline.rpush(f"list:{number}", *range(number + 1))
        pipeline.hset(f"hash:{number}", mapping={f"field:{at}": at for at in range(number + 1)})
        pipeline.sadd(f"set:{number}", *range(number + 1))
        pipeline.zadd(f"zset:{number}", {f"member:{at}": at for at in range(number + 1)})
        pipeline.xadd(f"stream:{number}", {"field": number}, id=f"{number + 1}-1")
        pipeline.xgroup_create(f"stream:{number}", "group")
        pipeline.pfadd(f"hll:{number}", *range(number * 10))
        pipeline.setbit(f"bits:{number}", number * 1000, 1)
    pipeline.rpush("large", *range(5000))
    pipeline.hpexpireat("hash:3", 4_000_000_000_000, "field:1")
    pipeline.function_load(LIBRARY)
    pipeline.execute()


def content(port: int) -> dict[tuple[int, bytes], Any]:
    """Everything: what DUMP and PEXPIRETIME say of each key that SCAN finds, which finds each once."""
    found: dict[tuple[int, bytes], Any] = {}
    for db in (0, 1, 15):
        with redis.Redis(port=port, db=db) as client:
            keys = list(client.scan_iter(count=100))
            assert client.dbsize() == len(keys)
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.dump(key).pexpiretime(key)
            said = pipeline.execute()
            for number, key in enumerate(keys):
                assert (db, key) not in found
                found[db, key] = said[2 * number : 2 * number + 2]
    return found


def test_other_numbers_at_each_start(tmp_path: Path) -> None:
    expected: dict[tuple[int, bytes], Any] = {}
    for workers, shards in ((1, 1), (4, 4), (2, 2), (3, 3), (0, 3)):
        with shardkv(tmp_path, workers=workers, proxies=2) as server:
            if not expected:
                for db in (0, 1, 15):
                    with redis.Redis(port=server.port, db=db) as client:
                        if db:
                            client.function_flush()
                        fill(client)
                expected = content(server.port)
            eventually(lambda shards=shards: settled(server, shards), 60)  # type: ignore[misc]
            assert content(server.port) == expected
            with redis.Redis(port=server.port) as client:
                for number in range(8):
                    assert client.fcall("twice", 1, f"string:{number}", 21) == 42
            eventually(lambda shards=shards: len(server.pids("worker")) == shards)  # type: ignore[misc]
            eventually(
                lambda shards=shards: (  # type: ignore[misc]
                    {path.name for path in (tmp_path / "appendonlydir").glob("shard-*")}
                    == {f"shard-{number}" for number in range(shards)}
                )
            )
    with shardkv(tmp_path, workers=3) as server:
        assert content(server.port) == expected


def test_who_waits_watches_or_listens_does_not_notice() -> None:
    with shardkv(workers=1, proxies=2) as server:
        with redis.Redis(port=server.port) as client:
            fill(client)
        admin = server.wire()
        waiting = [server.wire() for _ in range(40)]
        for number, one in enumerate(waiting[:20]):
            one.send("BLPOP", f"queue:{number}", 0)
        for number, one in enumerate(waiting[20:]):
            one.send("BLPOP", f"queue:{number + 20}", f"other:{number}", 0)
        readers = [server.wire() for _ in range(10)]
        for number, one in enumerate(readers):
            one.send("XREAD", "BLOCK", 0, "STREAMS", f"stream:{number}", "$")
        timed = [server.wire() for _ in range(10)]
        for number, one in enumerate(timed):
            one.send("BLPOP", f"nothing:{number}", "0.5")
        listeners = [on_proxy(server, number % 2, 2) for number in range(20)]
        for number, one in enumerate(listeners):
            one.ask("SUBSCRIBE", f"channel:{number}")
        pattern = on_proxy(server, 1, 2)
        pattern.ask("PSUBSCRIBE", "channel:*")
        watchers = [server.wire() for _ in range(20)]
        for number, one in enumerate(watchers):
            one.ask("WATCH", f"string:{number}")
        eventually(lambda: int(server.info("clients")["blocked_clients"]) == 60)
        assert admin.ask("CONFIG", "SET", "workers", 3) == b"+OK\r\n"
        eventually(lambda: settled(server, 3), 60)
        for one in timed:
            assert one.receive() == b"*-1\r\n"
        for number in range(len(watchers)):
            admin.ask("SET", f"string:{number}", "changed")
        for number, one in enumerate(watchers):
            one.ask("MULTI")
            one.ask("SET", f"string:{number}", "mine")
            assert one.ask("EXEC") == b"*-1\r\n"
        for number in range(len(listeners)):
            assert admin.ask("PUBLISH", f"channel:{number}", number) == b":2\r\n"
        for number, one in enumerate(listeners):
            assert one.receive().endswith(b"\r\n%d\r\n" % number)
        for number in range(len(listeners)):
            assert pattern.receive().endswith(b"\r\n%d\r\n" % number)
        for number in range(40):
            admin.ask("RPUSH", f"queue:{number}", "element")
        for number, one in enumerate(waiting):
            assert one.receive() == b"*2\r\n$%d\r\nqueue:%d\r\n$7\r\nelement\r\n" % (
                len(f"queue:{number}"),
                number,
            )
        for number, one in enumerate(readers):
            admin.ask("XADD", f"stream:{number}", "5000-1", "field", "value")
            assert b"5000-1" in one.receive()
        # And back to one shard, with everybody still there.
        assert admin.ask("CONFIG", "SET", "workers", 1) == b"+OK\r\n"
        eventually(lambda: settled(server, 1) and len(server.pids("worker")) == 1, 60)
        for number in range(len(listeners)):
            assert admin.ask("PUBLISH", f"channel:{number}", number) == b":2\r\n"
        for connection in (admin, pattern, *waiting, *readers, *timed, *listeners, *watchers):
            connection.socket.close()


def test_a_scan_misses_nothing() -> None:
    with shardkv(workers=1, proxies=2) as server, redis.Redis(port=server.port) as client:
        fill(client)
        keys = set(client.keys())
        client.config_set("workers", 4)
        scans = 0
        while not settled(server, 4):
            assert set(client.scan_iter(count=50)) == keys
            assert client.dbsize() == len(keys)
            assert set(client.keys()) == keys
            scans += 1
        assert scans > 1


def test_what_cannot_be(tmp_path: Path) -> None:
    with shardkv(tmp_path, workers=2) as server, server.wire() as connection:
        connection.ask("SET", "key", "value")
        assert connection.ask("CONFIG", "SET", "workers", -1).startswith(b"-ERR")
        connection.ask("CONFIG", "SET", "appendonly", "no")
        assert connection.ask("CONFIG", "SET", "workers", 3).startswith(b"-ERR There is data in the folder")
    with (
        pytest.raises(RuntimeError, match="appendonly yes"),
        shardkv(tmp_path, workers=3, appendonly="no"),
    ):
        pass
    (tmp_path / "appendonlydir" / "slots.json").unlink()
    with pytest.raises(RuntimeError, match="is missing, but there is data"), shardkv(tmp_path, workers=2):
        pass


def test_the_tool() -> None:
    with shardkv(workers=1) as server:
        url = f"redis://127.0.0.1:{server.port}"
        told = CliRunner().invoke(main, ["reshard", "2", "--to", url])
        assert told.exit_code == 0, told.output
        assert "There are 2 shards." in told.output
        assert settled(server, 2)
        found = server.info("shards")
        assert found["reshard_state"] == "done"
        assert int(found["reshard_slots_moved"]) == 8192
        assert CliRunner().invoke(main, ["reshard", "0", "--to", url]).exit_code == 2
    refused = CliRunner().invoke(main, ["reshard", "2", "--to", url])
    assert refused.exit_code == 1
    assert "refused" in refused.output


def loads_of(server: Shardkv) -> list[dict[bytes, int]]:
    """What REBALANCE would do."""
    with redis.Redis(port=server.port, protocol=3) as client:
        return client.execute_command("REBALANCE", "DRYRUN")  # type: ignore[no-any-return]


def test_shards_are_balanced_by_what_they_bear(tmp_path: Path) -> None:
    with shardkv(tmp_path, workers=3) as server, redis.Redis(port=server.port) as client:
        table = even_slot_table(3)
        large = [key for key in map("large:{}".format, range(300)) if table[slot_of(key.encode())] == 1]
        client.mset(dict.fromkeys(large, "x" * 30_000))
        fill(client)
        before = content(server.port)
        spread = loads_of(server)
        assert spread[1][b"bytes"] > 2 * max(spread[0][b"bytes"], spread[2][b"bytes"])
        assert spread[1][b"bytes-after"] < 1.3 * spread[0][b"bytes-after"]
        assert [load[b"slots"] for load in spread] == [table.count(shard) for shard in range(3)]
        told = CliRunner().invoke(main, ["rebalance", "--to", f"redis://127.0.0.1:{server.port}"])
        assert told.exit_code == 0, told.output
        assert "There are 3 shards." in told.output
        slots = [load[b"slots"] for load in loads_of(server)]
        assert slots != [load[b"slots"] for load in spread]
        # Requests have come meanwhile, so they are not just those that were told.
        sizes = [load[b"bytes"] for load in loads_of(server)]
        assert max(sizes) < 1.5 * min(sizes)
        assert content(server.port) == before
    # A start leaves it so; with another number of them shards share equally again.
    with shardkv(tmp_path, workers=3) as server:
        assert [load[b"slots"] for load in loads_of(server)] == slots
        assert server.info("shards")["reshard_slots_moved"] == "0"
        assert content(server.port) == before
        with redis.Redis(port=server.port) as client:
            client.config_set("workers", 2)
        eventually(lambda: settled(server, 2))
        assert content(server.port) == before


def test_requests_count_as_much_as_memory() -> None:
    with shardkv(workers=2) as server, server.wire() as asker, server.wire() as busy:
        table = even_slot_table(2)
        keys = [f"key:{number}" for number in range(100) if table[slot_of(b"key:%d" % number)] == 0]
        # As much memory on both, as far as that goes.
        for number in range(100):
            busy.ask("SET", f"key:{number}", 1000)
        asker.send("REBALANCE", "DRYRUN")
        while not select.select([asker.socket], [], [], 0)[0]:
            for key in keys:
                busy.ask("INCR", key)
        found = parsed(asker.receive())
        loads = [dict(zip(fields[::2], fields[1::2], strict=True)) for fields in found]
        assert loads[0][b"requests"] > 2 * len(keys) > 0
        assert loads[1][b"requests"] == 0
        assert loads[0][b"requests-after"] < 0.9 * loads[0][b"requests"]


def test_what_rebalance_refuses(tmp_path: Path) -> None:
    with shardkv(tmp_path, workers=2) as server, server.wire() as client:
        assert client.ask("REBALANCE", "NOW") == b"-ERR syntax error\r\n"
        assert client.ask("SET", "a", 1) == b"+OK\r\n"
    with shardkv(tmp_path, workers=2, appendonly="no") as server, server.wire() as client:
        assert client.ask("REBALANCE").startswith(b"-ERR There is data in the folder that is not loaded")
