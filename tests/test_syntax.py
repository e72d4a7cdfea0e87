"""The notation of commands, its arity and its argument tree."""

from __future__ import annotations

import pytest

from shardkv.syntax import Argument, arity, parse


def value(name: str, type: str = "string", **more: object) -> Argument:
    return Argument(name, type, **more)  # type: ignore[arg-type]


def token(word: str, optional: bool = False) -> Argument:
    return Argument(word.lower(), "pure-token", token=word, optional=optional)


def test_plain_arguments() -> None:
    assert parse("key value") == (value("key", "key"), value("value"))


def test_nothing() -> None:
    assert parse("") == ()


def test_keyword_belongs_to_the_value_after_it() -> None:
    assert parse("[COUNT count]") == (value("count", "integer", token="COUNT", optional=True),)


def test_keyword_alone() -> None:
    assert parse("[GET]") == (token("GET", optional=True),)


def test_choice_of_keywords() -> None:
    assert parse("[NX | XX]") == (
        Argument("nx-or-xx", "oneof", optional=True, arguments=(token("NX"), token("XX"))),
    )


def test_choice_after_a_keyword() -> None:
    assert parse("[AGGREGATE <SUM | MIN>]") == (
        Argument(
            "sum-or-min", "oneof", token="AGGREGATE", optional=True, arguments=(token("SUM"), token("MIN"))
        ),
    )


def test_choice_of_values() -> None:
    (choice,) = parse("<MAXLEN threshold | * | id>")
    assert [(each.name, each.type, each.token) for each in choice.arguments] == [
        ("threshold", "string", "MAXLEN"),
        ("*", "pure-token", "*"),
        ("id", "string", None),
    ]


def test_keyword_before_several_values_is_the_block_s() -> None:
    (limit,) = parse("[LIMIT offset count]")
    assert (limit.type, limit.token, limit.optional) == ("block", "LIMIT", True)
    assert limit.arguments == (value("offset", "integer"), value("count", "integer"))


def test_block_with_a_choice_in_it() -> None:
    (box,) = parse("[BYRADIUS radius <M | KM>]")
    assert [argument.token for argument in box.arguments] == ["BYRADIUS", None]
    assert box.token is None


@pytest.mark.parametrize(
    ("line", "multiple", "multiple_token"),
    [
        ("key [key ...]", True, False),
        ("GET pattern [GET pattern ...]", True, True),
        ("<A | B> [...]", True, False),
        ("key", False, False),
    ],
)
def test_repetition(line: str, multiple: bool, multiple_token: bool) -> None:
    (argument,) = parse(line)
    assert (argument.multiple, argument.multiple_token) == (multiple, multiple_token)


def test_repetition_of_several_makes_a_block() -> None:
    key, pairs = parse("key field value [field value ...]")
    assert not key.multiple
    assert (pairs.type, pairs.multiple) == ("block", True)
    assert [argument.name for argument in pairs.arguments] == ["field", "value"]


def test_repetition_with_its_keyword() -> None:
    (block,) = parse("[CONFIG name value [CONFIG name value ...]]")
    assert (block.token, block.optional, block.multiple, block.multiple_token) == ("CONFIG", True, True, True)


def test_option_inside_an_option() -> None:
    (hello,) = parse("[protover [AUTH username password] [SETNAME clientname]]")
    assert [argument.optional for argument in hello.arguments] == [False, True, True]


@pytest.mark.parametrize(
    ("words", "line", "expected"),
    [
        (1, "", 1),
        (2, "", 2),
        (1, "key", 2),
        (1, "key [key ...]", -2),
        (1, "[message]", -1),
        (1, "key value [NX | XX] [GET] [EX seconds | PX milliseconds]", -3),
        (1, "key <LEFT | RIGHT>", 3),
        (1, "<host port | NO ONE>", 3),
        (1, "<START | STREAM offset>", -2),
        (2, "<ip:port | <ID client-id [client-id ...] | USER username> [...]>", -3),
        (1, "key [<GET encoding offset | SET encoding offset value> [...]]", -2),
        (1, "key FIELDS numfields field [field ...]", -5),
        (1, "numkeys key value [key value ...] [NX | XX]", -4),
    ],
)
def test_arity(words: int, line: str, expected: int) -> None:
    assert arity(words, parse(line)) == expected


@pytest.mark.parametrize("line", ["[key", "key]", "<a | b", "a | b", "[a>", "[]", "key [key ...", ">"])
def test_malformed(line: str) -> None:
    with pytest.raises(ValueError, match="syntax"):
        parse(line)
