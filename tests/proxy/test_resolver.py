"""Finding out what became of transactions that were in doubt."""

from __future__ import annotations

import pytest

from proxy.resolver import Message, Resolver
from shardkv.control import FORGET, FREEZE, SETTLE
from shardkv.transactions import COMMITTED, PREPARED, UNKNOWN

T = (0, 7)


@pytest.fixture
def resolver() -> Resolver:
    """Three shards are up, and nobody has said anything yet."""
    resolver = Resolver(10)
    for shard in range(3):
        resolver.came_up(shard)
    return resolver


def said(resolver: Resolver) -> dict[int, Message]:
    """What is said now, by shard."""
    return {message.shard: message for message in resolver.next_messages()}


def answer_freeze(resolver: Resolver, **answers: str) -> None:
    for name, answer in answers.items():
        resolver.answered(Message(int(name[1:]), FREEZE, [T]), [answer])


def settle(resolver: Resolver, messages: dict[int, Message]) -> None:
    for message in messages.values():
        assert message.topic == SETTLE
        resolver.answered(message, True)


@pytest.mark.parametrize(
    ("answers", "commit"),
    [
        ((PREPARED, PREPARED, PREPARED), False),
        ((PREPARED, UNKNOWN, PREPARED), False),
        ((UNKNOWN, UNKNOWN, UNKNOWN), False),
        ((COMMITTED, PREPARED, PREPARED), True),
        ((COMMITTED, COMMITTED, COMMITTED), True),
        ((UNKNOWN, PREPARED, COMMITTED), True),
    ],
)
def test_if_one_has_carried_it_out_all_do(
    resolver: Resolver, answers: tuple[str, str, str], commit: bool
) -> None:
    resolver.reported(T, [0, 1, 2])
    questions = said(resolver)
    assert {message.topic for message in questions.values()} == {FREEZE}
    assert not said(resolver)
    answer_freeze(resolver, s0=answers[0], s1=answers[1], s2=answers[2])
    orders = said(resolver)
    assert [message.body for message in orders.values()] == [[(T, commit)]] * 3
    settle(resolver, orders)
    assert {message.topic for message in said(resolver).values()} == {FORGET}
    assert not resolver.doubts
    assert not said(resolver)


def test_one_that_is_known_to_be_carried_out_need_not_wait_for_a_shard_that_is_down(
    resolver: Resolver,
) -> None:
    resolver.went_down(2)
    resolver.reported(T, [0, 1, 2])
    assert said(resolver).keys() == {0, 1}
    answer_freeze(resolver, s1=COMMITTED)
    orders = said(resolver)
    assert orders.keys() == {0, 1}
    settle(resolver, orders)
    assert not said(resolver)
    resolver.came_up(2)
    orders = said(resolver)
    assert orders == {2: Message(2, SETTLE, [(T, True)])}
    settle(resolver, orders)
    assert said(resolver).keys() == {0, 1, 2}


def test_one_that_may_have_been_carried_out_waits_for_a_shard_that_is_down(resolver: Resolver) -> None:
    resolver.went_down(2)
    resolver.reported(T, [0, 1, 2])
    said(resolver)
    answer_freeze(resolver, s0=PREPARED, s1=PREPARED)
    assert not said(resolver)
    resolver.came_up(2)
    assert said(resolver) == {2: Message(2, FREEZE, [T])}
    answer_freeze(resolver, s2=COMMITTED)
    assert [message.body for message in said(resolver).values()] == [[(T, True)]] * 3


def test_one_that_another_knows_nothing_of_was_not_carried_out(resolver: Resolver) -> None:
    resolver.went_down(2)
    resolver.reported(T, [0, 1, 2])
    said(resolver)
    answer_freeze(resolver, s0=UNKNOWN)
    # Shard 1 may know better.
    assert not said(resolver)
    answer_freeze(resolver, s1=PREPARED)
    assert [message.body for message in said(resolver).values()] == [[(T, False)]] * 2


def test_what_a_shard_said_before_it_died_counts_no_more(resolver: Resolver) -> None:
    resolver.reported(T, [0, 1])
    said(resolver)
    answer_freeze(resolver, s0=UNKNOWN)
    resolver.went_down(0)
    answer_freeze(resolver, s0=UNKNOWN)
    assert not said(resolver)
    resolver.came_up(0)
    assert said(resolver) == {0: Message(0, FREEZE, [T])}
    answer_freeze(resolver, s0=PREPARED, s1=PREPARED)
    orders = said(resolver)
    resolver.answered(orders[0], True)
    # That it was given up may not be on disk.
    resolver.went_down(0)
    resolver.answered(orders[1], True)
    assert not said(resolver)
    assert resolver.doubts
    resolver.came_up(0)
    settle(resolver, said(resolver))
    assert said(resolver).keys() == {0, 1}


def test_who_does_not_answer_in_time_is_asked_again(resolver: Resolver) -> None:
    resolver.reported(T, [0, 1])
    questions = said(resolver)
    resolver.answered(questions[0], None)
    assert said(resolver) == {0: questions[0]}
    answer_freeze(resolver, s0=PREPARED, s1=PREPARED)
    orders = said(resolver)
    # It could not be made durable.
    resolver.answered(orders[1], False)
    resolver.answered(orders[0], True)
    assert said(resolver) == {1: orders[1]}


def test_it_is_reported_by_several(resolver: Resolver) -> None:
    resolver.reported(T, [0, 1])
    said(resolver)
    resolver.reported(T, [0, 1])
    assert not said(resolver)
    assert len(resolver.doubts) == 1


def test_a_shard_that_leaves_is_not_asked_any_more(resolver: Resolver) -> None:
    """It has had no part in anything when it left."""
    resolver.reported(T, [0, 1, 2])
    assert said(resolver).keys() == {0, 1, 2}
    resolver.resized(2)
    answer_freeze(resolver, s0=PREPARED, s1=PREPARED)
    orders = said(resolver)
    assert {shard: message.body for shard, message in orders.items()} == {0: [(T, False)], 1: [(T, False)]}
    settle(resolver, orders)
    assert said(resolver).keys() == {0, 1}
    assert not resolver.doubts


def test_nor_waited_for(resolver: Resolver) -> None:
    resolver.reported(T, [0, 1, 2])
    said(resolver)
    answer_freeze(resolver, s0=COMMITTED)
    orders = said(resolver)
    assert orders.keys() == {0, 1, 2}
    settle(resolver, {shard: orders[shard] for shard in (0, 1)})
    resolver.resized(2)
    assert {shard: message.topic for shard, message in said(resolver).items()} == {0: FORGET, 1: FORGET}
    assert not resolver.doubts


def test_what_is_reported_later_does_not_concern_it_either(resolver: Resolver) -> None:
    resolver.resized(2)
    resolver.reported(T, [0, 1, 2])
    assert said(resolver).keys() == {0, 1}
