"""Where the figures come from."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import psutil


def machine() -> str:
    """Processor, cores, memory and kernel of this machine, in a line."""
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{_processor()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {platform.release()}"


def _processor() -> str:
    """The processor's name as the kernel tells it; on some architectures it does not."""
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()
