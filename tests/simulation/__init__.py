"""Clients, proxies, shards and their supervisor in one process, driven step by step in a seeded random order.

Everything that decides is the real thing: the supervisor with its relay and resolver, the coordinators and
the state machines they drive, the queues of MULTI, the shards with their locks, drafts, logs and side logs.
Only what lies between them is made of lists: pipes, control channels, the event loops, the disk. A message
waits where it is until the scheduler picks it, so each pipe keeps its own order and nothing else is in order.
Any process may die at any step, in the middle of writing its log too. A seed that fails replays exactly.
"""

from tests.simulation.proxies import LOST, Lost, Script
from tests.simulation.world import Simulation

__all__ = ["LOST", "Lost", "Script", "Simulation"]
