"""What LATENCY DOCTOR and MEMORY DOCTOR say: what was found, and what can be done about it."""

from __future__ import annotations

from typing import Any

from proxy.processes import Usage
from shardkv.latency import Series

_ADVICE = {
    "command": (
        "Look at SLOWLOG for the commands that take long. Commands that read or delete a whole large "
        "collection hold up their shard: read it in parts (HSCAN, SSCAN, ZSCAN, LRANGE), and delete it "
        "with UNLINK.",
    ),
    "fast-command": (
        "Commands that should be fast were not: their requests or replies were very large, or the host has "
        "too little processor time for this many processes. Look at SLOWLOG, and at the load of the host.",
    ),
    "aof-write": (
        "Writing to the append-only file takes long: the disk is busy with something else, or too slow. "
        "With no-appendfsync-on-rewrite yes less is waited for while a rewrite runs.",
    ),
    "aof-fsync-always": (
        "Each fsync takes long, and with appendfsync always every write waits for one. A faster disk helps, "
        "or appendfsync everysec, if a power cut may cost the last second.",
    ),
    "expire-cycle": ("Very many keys expire at the same time: spread their times to live.",),
    "aof-rewrite-slice": (
        "A step of the rewrite of the append-only file took long, because of a very large value: divide "
        "it among several keys.",
    ),
}


def latency_report(config: Any, events: dict[str, Series]) -> str:
    """Takes the settings and the events of all processes."""
    threshold_ms = config.latency_monitor_threshold
    if not threshold_ms:
        return (
            "Latency is not monitored. CONFIG SET latency-monitor-threshold <milliseconds> has everything "
            "kept that takes as long, or longer.\n"
        )
    if not events:
        return f"Nothing has taken {threshold_ms} ms or longer since the start or the last LATENCY RESET.\n"
    lines = [f"These events took {threshold_ms} ms or longer:", ""]
    lines += [f"{number}. {_line(name, series)}" for number, (name, series) in enumerate(events.items(), 1)]
    lines += ["", "What can be done:", ""]
    slower_us = config.slowlog_log_slower_than
    if slower_us < 0 or slower_us > threshold_ms * 1000:
        lines.append(
            "- SLOWLOG keeps less than is monitored here. CONFIG SET slowlog-log-slower-than "
            f"{threshold_ms * 1000} has it keep the commands of these events."
        )
    lines += [f"- {advice}" for name in events for advice in _ADVICE.get(name, ())]
    return "\n".join(lines) + "\n"


def _line(name: str, series: Series) -> str:
    times = [took_ms for _, took_ms in series.samples]
    average = sum(times) / len(times)
    deviation = sum(abs(took - average) for took in times) / len(times)
    period_s = (series.samples[-1][0] - series.samples[0][0]) / max(1, len(times) - 1)
    return (
        f"{name}: {len(times)} latency spikes (average {average:.0f}ms, mean deviation {deviation:.0f}ms, "
        f"period {period_s:.2f} sec). Worst all time event {series.longest_ms}ms."
    )


_LITTLE_BYTES = 64 * 2**20
_HIGH_PEAK = 1.5
_LARGE_CLIENT_BYTES = 200 * 1024


def memory_report(usage: dict[str, Usage], keys: int, clients: int, buffers_bytes: int) -> str:
    """Takes what each process uses, by its name, the number of keys and of clients, and the bytes that are
    held for clients."""
    findings = []
    total = sum(used.used_bytes for used in usage.values())
    if total and not keys:
        return "There are no keys: what is used is what the processes need by themselves.\n"
    for name, used in usage.items():
        if used.resident_bytes > _LITTLE_BYTES and used.peak_bytes > _HIGH_PEAK * used.resident_bytes:
            findings.append(
                f"{name} has used {used.peak_bytes} bytes at its peak, and now uses {used.resident_bytes}. "
                "If that was a single event, nothing needs to be done; MEMORY PURGE gives back what can be."
            )
    if clients and buffers_bytes / clients > _LARGE_CLIENT_BYTES:
        findings.append(
            f"{buffers_bytes} bytes are held for {clients} clients: they send large requests, or do not read "
            "their replies as fast as they come. CLIENT LIST shows whose (qbuf, omem); "
            "client-output-buffer-limit bounds it."
        )
    sizes = [used.used_bytes for name, used in usage.items() if name.startswith("worker")]
    if len(sizes) > 1 and max(sizes) > _LITTLE_BYTES and max(sizes) > 2 * sum(sizes) / len(sizes):
        findings.append(
            "One shard is more than twice as large as they are on average: a single key is very large, or "
            "many keys have the same {tag} or match the same pattern of the setting colocate. INFO shards "
            "tells them."
        )
    if not findings:
        return "Nothing unusual was found in the memory of any process.\n"
    return "\n".join(f"- {finding}" for finding in findings) + "\n"
