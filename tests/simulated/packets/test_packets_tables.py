"""Tables, rules and sets as transactions make them: what is refused, what is not known, what is shared."""

from __future__ import annotations

import errno

import pytest

from l3net.errors import RefusedError
from packets.parsing import rule
from packets.sets import NamedSet
from packets.table import SimTable
from packets.types_of_sets import set_type
from packets.values import UnknownError

TABLE = """\
table inet l3net
delete table inet l3net
table inet l3net {
counter hits { }
map led {
typeof ip daddr . meta l4proto . th dport : verdict
elements = {
10.0.0.1 . 6 . 80 : goto far,
10.0.0.2 . 6 . 80 : goto far
}
}
set some {
type ipv4_addr
}
chain far {
ip saddr @some counter name hits drop
}
chain input {
type filter hook input priority 0; policy accept;
ip daddr . meta l4proto . th dport vmap @led
}
}
"""


def test_a_table_is_what_its_text_says() -> None:
    table = SimTable.of(TABLE)
    assert table.chains["far"] == ("ip saddr @some counter name hits drop",)
    assert table.sets["led"] == {"10.0.0.1 . 6 . 80 : goto far", "10.0.0.2 . 6 . 80 : goto far"}
    assert table.sets["some"] == set() and table.counters == {"hits"} and not table.beside
    assert SimTable.of(TABLE).amended(TABLE).sets == table.sets
    table.parse()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("add rule inet l3net far jump nowhere", errno.ENOENT),
        ("add rule inet l3net far ip saddr @none drop", errno.ENOENT),
        ("add rule inet l3net none drop", errno.ENOENT),
        ("add element inet l3net led { 10.0.0.3 . 6 . 80 : goto nowhere }", errno.ENOENT),
        ("add element inet l3net led { 10.0.0.1 . 6 . 80 : goto input }", errno.EEXIST),
        ("delete element inet l3net led { 10.0.0.3 . 6 . 80 }", errno.ENOENT),
        ("delete element inet l3net none { 10.0.0.3 }", errno.ENOENT),
        ("delete chain inet l3net far", errno.EBUSY),
        ("delete set inet l3net some", errno.EBUSY),
        ("delete counter inet l3net none", errno.ENOENT),
        ("flush chain inet l3net none", errno.ENOENT),
        ("add element inet other led { 10.0.0.3 }", errno.ENOENT),
        ("delete table ip l3net", errno.ENOENT),
        # What comes later in the text is not there before.
        ("add rule inet l3net far jump new\nadd chain inet l3net new", errno.ENOENT),
        ("table inet l3net {\nchain new {\njump nowhere\n}\n}", errno.ENOENT),
    ],
)
def test_what_the_kernel_refuses_is_refused_and_changes_nothing(text: str, code: int) -> None:
    table = SimTable.of(TABLE)
    before = dict(table.chains), {name: set(held) for name, held in table.sets.items()}
    with pytest.raises(RefusedError) as refused:
        table.amended(f"add element inet l3net some {{ 10.9.9.9 }}\nadd chain inet l3net more\n{text}\n")
    assert refused.value.code == code
    assert before == (dict(table.chains), {name: set(held) for name, held in table.sets.items()})


@pytest.mark.parametrize(
    "text",
    [
        "flush chain inet l3net input\nflush map inet l3net led\ndelete chain inet l3net far",
        "add chain inet l3net new\nadd rule inet l3net far jump new",
        "flush chain inet l3net far\ndelete set inet l3net some",
        "delete element inet l3net led { 10.0.0.1 . 6 . 80, 10.0.0.2 . 6 . 80 : goto far }\n"
        "delete chain inet l3net far",
        "flush chain inet l3net input\ndelete map inet l3net led\ndelete chain inet l3net far",
        "add element inet l3net led { 10.0.0.1 . 6 . 80 : goto far }",
        "table inet l3net {\nchain one {\njump two\n}\nchain two {\n}\n}",
    ],
)
def test_what_is_led_to_by_nothing_any_more_may_go(text: str) -> None:
    SimTable.of(TABLE).amended(text + "\n").parse()


def test_a_transaction_shares_what_it_does_not_touch() -> None:
    table = SimTable.of(TABLE)
    table.parse()
    after = table.amended("add element inet l3net some { 10.0.0.9 }\n")
    assert after.sets["led"] is table.sets["led"] and after.sets["some"] is not table.sets["some"]
    assert after.sets["some"] == {"10.0.0.9"} and table.sets["some"] == set()
    assert after.sets["some"].get(0x0A000009, 0.0) is True and table.sets["some"].get(0x0A000009, 0.0) is None


def test_elements_go_when_their_time_is_over() -> None:
    text = "table inet l3net {\nset timed {\ntype ipv4_addr\nflags timeout\ntimeout 20s\n}\n}\n"
    add = (
        "add element inet l3net timed { 10.0.0.1, 10.0.0.2 timeout 1m, 10.0.0.3 timeout 9s expires 2000ms }\n"
    )
    held = SimTable.of(text).amended(add, 100.0).sets["timed"]
    there = {
        now: [held.get(0x0A000000 + each, now) is not None for each in (1, 2, 3)]
        for now in (101.0, 103.0, 121.0, 161.0)
    }
    assert there == {
        101.0: [True, True, True],
        103.0: [True, True, False],
        121.0: [False, True, False],
        161.0: [False, False, False],
    }
    held.fill(7, 30.0, 200.0)
    assert held.get(7, 229.0) and not held.get(7, 231.0) and held.filled(229.0) == {7: 230.0}


@pytest.mark.parametrize(
    "text",
    [
        "ip saddr 10.0.0.1 teleport",
        "meta skuid 5 accept",
        "ip dscp 3 drop",
        "tcp dport ssh accept",
        "ct direction sideways accept",
        "ct state young accept",
        "fib daddr . iif type local",
        "ip saddr 10.0.0.1/8 drop",
        "ip saddr fd00::1 drop",
        "numgen inc mod 3 vmap { 0 : accept }",
        "dnat ip to 10.0.0.1:80 random",
        "masquerade random",
        "meta mark set meta mark ^ 0x5",
        "meta mark set ip saddr & 0xff",
        "reject with icmpx",
        "log level warn",
        "jump",
        "th dport 80 vmap { 80 : 5 }",
        "ip daddr . th dport 80",
        "",
    ],
)
def test_what_is_not_known_is_an_error(text: str) -> None:
    with pytest.raises(UnknownError):
        rule(text)


@pytest.mark.parametrize("text", ["type string", "typeof ip dscp", "class ipv4_addr"])
def test_what_types_are_not_known_is_an_error(text: str) -> None:
    with pytest.raises(UnknownError):
        set_type(text)
    with pytest.raises(UnknownError):
        NamedSet((text, "flags constant", "policy memory", "gc-interval 5s"))


def test_elements_have_as_many_parts_as_their_type() -> None:
    with pytest.raises(UnknownError):
        SimTable.of(TABLE.replace("10.0.0.1 . 6 . 80", "10.0.0.1 . 80")).parse()
