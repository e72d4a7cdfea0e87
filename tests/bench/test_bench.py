"""The benchmarks: how figures are made of what was measured, and that every family can be measured at all."""

from __future__ import annotations

import io
import shutil
import socket
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from rich.console import Console

from bench import elements, report, strings, workloads
from bench.__main__ import FAMILIES, main
from bench.contest import Contest, Pair, in_turn
from bench.figures import Figure, Goal, Reading, summarize
from bench.latency import canary, percentile, timed_get
from bench.servers import HOST, Program, Server, redis_program, running, shardkv_program
from bench.throughput import requests_per_s
from bench.workloads import WORKLOADS
from shardkv.slots import even_slot_table, slot_of

needs_redis = pytest.mark.skipif(
    not (shutil.which("redis-server") and shutil.which("redis-benchmark")),
    reason="needs redis-server and redis-benchmark",
)

RATE = Figure("Throughput", "GET", "ops/s", Goal(0.8, at_most=False))
CPU = Figure("Processor time", "GET", "µs/op", Goal(1.7))
WORST = Figure("Rewrite", "worst", "ms", Goal(20, of_ratio=False))


# -- figures ----------------------------------------------------------------------------------


def test_a_summary_has_medians_and_the_median_of_the_rounds_ratios() -> None:
    [summary] = summarize([Reading(RATE, 80, 100), Reading(RATE, 10, 10), Reading(RATE, 90, 180)])
    assert (summary.shardkv, summary.redis) == (80, 100)
    assert (summary.lowest_ratio, summary.ratio, summary.highest_ratio) == (0.5, 0.8, 1.0)


def test_summaries_are_grouped() -> None:
    other = Figure("Throughput", "SET", "ops/s")
    rounds = [Reading(RATE, 1, 1), Reading(CPU, 1, 1), Reading(other, 1, 1)] * 2
    assert [summary.figure for summary in summarize(rounds)] == [RATE, other, CPU]


def test_nothing_is_no_base_for_a_ratio() -> None:
    [summary] = summarize([Reading(CPU, 1.5, 0.0)])
    assert summary.ratio is None
    assert not Goal(1.7).reached(summary)


@pytest.mark.parametrize(
    ("goal", "shown", "reached"),
    [
        (Goal(0.5, at_most=False), "≥0.5x", True),
        (Goal(0.51, at_most=False), "≥0.51x", False),
        (Goal(0.5), "≤0.5x", True),
        (Goal(0.49), "≤0.49x", False),
        (Goal(10, of_ratio=False), "≤10", True),
        (Goal(9.9, of_ratio=False), "≤9.9", False),
    ],
)
def test_goals_bind_the_ratio_or_the_figure_itself(goal: Goal, shown: str, reached: bool) -> None:
    [summary] = summarize([Reading(WORST, 10, 20)])
    assert str(goal) == shown
    assert goal.reached(summary) is reached


def test_who_is_measured_first_changes_every_round() -> None:
    order: list[str] = []

    def measure(name: str) -> str:
        order.append(name)
        return name.upper()

    for number in range(2):
        assert in_turn(number, Pair("ours", "theirs"), measure) == Pair("OURS", "THEIRS")
    assert order == ["ours", "theirs", "theirs", "ours"]


@pytest.mark.parametrize(("share", "found"), [(0.0, 1), (0.5, 3), (0.99, 5), (1.0, 5)])
def test_percentile(share: float, found: int) -> None:
    assert percentile([5, 3, 1, 4, 2], share) == found


# -- redis-benchmark --------------------------------------------------------------------------

PRINTED = """WARNING: Could not fetch server CONFIG
"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"SET key:__rand_int__ xxxx","111999.99","1.231","1.136","1.255","1.287","1.311","1.311"
"""


def test_reads_what_redis_benchmark_prints() -> None:
    assert requests_per_s(PRINTED) == 111999.99


@pytest.mark.parametrize("printed", ["", "GET: 100 requests per second\n", PRINTED + '"GET","1"\n'])
def test_refuses_what_is_not_one_result(printed: str) -> None:
    with pytest.raises(ValueError, match="redis-benchmark"):
        requests_per_s(printed)


def test_the_strings_are_those_that_redis_benchmark_asks_for() -> None:
    assert strings.key_of(42) == b"key:000000000042"
    assert len({strings.value_of(number) for number in range(100)}) == 100
    assert {len(strings.value_of(number)) for number in (0, 10**9)} == {strings.VALUE_BYTES}


# -- reports ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0.00"),
        (0.421, "0.42"),
        (9.996, "10.0"),
        (12.34, "12.3"),
        (99.96, "100"),
        (1234.5, "1,234"),
        (-250, "-250"),
    ],
)
def test_numbers_are_shown_with_the_digits_that_say_something(value: float, shown: str) -> None:
    assert report.number(value) == shown


def test_the_report_tells_conditions_figures_and_goals() -> None:
    contest = Contest(
        Pair(Program("shardkv 9", ("shardkv",), {"workers": "3"}), Program("redis 7", ("redis",))), rounds=2
    )
    summaries = summarize(
        [Reading(RATE, 90_000, 100_000), Reading(CPU, 20, 10), Reading(RATE, 80_000, 100_000)]
    )
    text = report.markdown(contest, summaries)
    assert "shardkv 9, workers 3; redis 7" in text
    assert "appendonly yes" in text
    assert "## Throughput" in text
    assert "| GET | ops/s | 85,000 | 100,000 | 0.85 | 0.80–0.90 | ≥0.8x ✓ |" in text
    assert "| GET | µs/op | 20.0 | 10.0 | 2.00 | 2.00–2.00 | ≤1.7x ✗ |" in text
    terminal = Console(file=io.StringIO(), record=True, width=80)
    terminal.print(report.table(contest, summaries))
    words = terminal.export_text().split()
    assert "GET ops/s 85,000 100,000 0.85 0.80–0.90 ≥0.8x ✓ Processor time" in " ".join(words)


def test_workloads_have_names_of_their_own() -> None:
    assert len({workload.name for workload in WORKLOADS}) == len(WORKLOADS)


def test_keys_that_are_apart_lie_on_different_shards() -> None:
    one, other = (slot_of(key.encode()) for key in workloads.SETS_APART)
    for shards in range(2, 9):
        table = even_slot_table(shards)
        assert table[one] != table[other]


@pytest.mark.parametrize("kind", elements.KINDS, ids=lambda kind: kind.name)
def test_requests_add_all_elements_once(kind: elements.Kind) -> None:
    requests = list(kind.requests(b"key", 250, first=1000))
    words = [word for request in requests for word in request]
    for number in (1000, 1249):
        assert words.count(elements.element(number)) == 1
    assert elements.element(999) not in words
    assert elements.element(1250) not in words
    assert len(requests) == (250 if kind.together == 1 else 3)


# -- real servers -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Server]:
    with running(redis_program("redis-server")) as server:
        strings.fill(server.port, 1500)
        yield server


@needs_redis
def test_a_running_server_can_be_measured(redis_server: Server) -> None:
    before = redis_server.cpu_times_s()
    assert len(redis_server.processes()) == 1
    assert redis_server.memory_bytes() > 1_000_000
    assert redis_server.cpu_since_s(before) >= 0
    with pytest.raises(RuntimeError, match="lost a process"):
        redis_server.cpu_since_s({**before, 0: 0.0})


@needs_redis
def test_the_strings_are_there(redis_server: Server) -> None:
    with redis_server.client() as client:
        assert client.dbsize() == 1500
        assert client.get(strings.key_of(1499)) == strings.value_of(1499)


@needs_redis
def test_the_canary_asks_until_the_block_ends(redis_server: Server) -> None:
    with redis_server.client() as client:
        client.config_resetstat()
        with canary(redis_server.port, 1500) as bird:
            while int(client.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"]) < 20:
                pass
    assert len(bird.times_ns) >= 20
    assert min(bird.times_ns) > 0


@needs_redis
@pytest.mark.parametrize("kind", elements.KINDS, ids=lambda kind: kind.name)
def test_collections_have_as_many_elements_as_they_should(redis_server: Server, kind: elements.Kind) -> None:
    count = {"hash": "HLEN", "set": "SCARD", "sorted set": "ZCARD", "list": "LLEN", "stream": "XLEN"}
    with redis_server.client() as client:
        for _ in range(2):
            elements.fill(redis_server.port, kind, b"large", 250)
            assert client.execute_command(count[kind.name], "large") == 250
        elements.fill_many(redis_server.port, kind, collections=3, elements=10)
        keys = client.keys("collection:*")
        assert [client.execute_command(count[kind.name], key) for key in keys] == [10] * 3
        client.delete("large", *keys)


@needs_redis
@pytest.mark.parametrize("name", ["RPOP", "SPOP", "ZPOPMIN"])
def test_nobody_pops_from_an_empty_collection(redis_server: Server, name: str) -> None:
    [workload] = [workload for workload in WORKLOADS if workload.name == name]
    assert workload.prepare is not None
    workload.prepare(redis_server.port, 10, 300)
    with redis_server.client() as client:
        for _ in range(300):
            assert client.execute_command(*workload.command)
        assert not client.execute_command(*workload.command)


@needs_redis
def test_half_of_the_elements_are_in_both_sets(redis_server: Server) -> None:
    [workload] = [workload for workload in WORKLOADS if workload.name == "SINTER, two shards"]
    assert workload.prepare is not None
    workload.prepare(redis_server.port, 100, 1)
    with redis_server.client() as client:
        assert client.scard(workload.command[1]) == client.scard(workload.command[2]) == 100
        assert len(client.execute_command(*workload.command)) == 50


@needs_redis
def test_the_canary_can_ask_for_what_is_not_there(redis_server: Server) -> None:
    with redis_server.client() as client:
        client.delete(*map(strings.key_of, range(1000)))
    with socket.create_connection((HOST, redis_server.port)) as connection:
        assert timed_get(connection, 0) > 0
    strings.fill(redis_server.port, 1500)


@needs_redis
def test_a_wrong_value_is_noticed() -> None:
    with running(redis_program("redis-server")) as server, server.client() as client:
        client.set(strings.key_of(0), b"another value")
        with (
            socket.create_connection((HOST, server.port)) as connection,
            pytest.raises(RuntimeError, match="another value"),
        ):
            timed_get(connection, 1)
        client.delete(strings.key_of(0))
        client.lpush(strings.key_of(0), "element")
        client.config_set("maxmemory", 1)
        with pytest.raises(RuntimeError, match="OOM"):
            strings.fill(server.port, 10)


@needs_redis
def test_a_server_that_does_not_start_shows_why() -> None:
    program = redis_program("redis-server")
    broken = Program(program.name, program.command, {"no-such-setting": "1"})
    with pytest.raises(RuntimeError, match="no-such-setting"), running(broken):
        pass


def test_the_program_to_compare_with_must_be_a_redis() -> None:
    with pytest.raises(ValueError, match="does not look like"):
        redis_program("true")
    with pytest.raises(OSError, match="no-such-program"):
        redis_program("no-such-program")


@needs_redis
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_measures_both_servers(family: str) -> None:
    programs = Pair(shardkv_program(workers=2, proxies=1), redis_program("redis-server"))
    contest = Contest(programs, rounds=1, requests=100, keyspace=100, keys=1000, idle_s=0.2)
    summaries = summarize(FAMILIES[family](contest))
    assert summaries
    assert report.markdown(contest, summaries).count("\n| ") == len(summaries) + 2 * len(
        {summary.figure.group for summary in summaries}
    )


@needs_redis
def test_one_command_runs_it() -> None:
    options = ["throughput", "--workload", "GET", "--quick", "--markdown", "-"]
    result = CliRunner().invoke(main, options, catch_exceptions=False)
    assert result.exit_code == 0
    assert "| GET, pipeline 16 | ops/s |" in result.output
