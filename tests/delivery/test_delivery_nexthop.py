"""Which servers are asked for a domain, in which order (RFC 5321 §5)."""

import pytest

from mailserver.delivery.nexthop import ADDRESS_LIMIT, Target, Unroutable, find_addresses, find_targets
from tests.support.fakes import run
from tests.support.remote import SERVFAIL, TableResolver


def find(domain="example.net", *, mx=None, hosts=None, hostname="mail.example.org"):
    resolver = TableResolver({domain: mx} if mx is not None else {}, hosts or {})
    return run(find_targets(resolver, domain, port=25, hostname=hostname))


def refused(**arguments):
    with pytest.raises(Unroutable) as caught:
        find(**arguments)
    return caught.value.reply


def test_exchangers_are_tried_by_preference():
    hosts = {f"mx{n}.example.net": [f"192.0.2.{n}"] for n in (1, 2, 3)}
    found = find(mx=[(30, "mx3.example.net"), (10, "mx1.example.net"), (20, "mx2.example.net")], hosts=hosts)
    assert found == [Target(f"mx{n}.example.net", f"192.0.2.{n}", 25) for n in (1, 2, 3)]


def test_equal_exchangers_share_the_load():
    hosts = {f"mx{n}.example.net": [f"192.0.2.{n}"] for n in range(4)}
    firsts = {find(mx=[(10, name) for name in hosts], hosts=hosts)[0].host for _ in range(200)}
    assert firsts == set(hosts)


def test_without_mx_the_domain_itself_is_the_exchanger():
    assert find(hosts={"example.net": ["2001:db8::1", "192.0.2.1"]}) == [
        Target("example.net", "2001:db8::1", 25),
        Target("example.net", "192.0.2.1", 25),
    ]


def test_with_mx_the_domain_itself_is_never_tried():
    reply = refused(mx=[(10, "gone.example.net")], hosts={"example.net": ["192.0.2.1"]})
    assert (reply.code, str(reply.status)) == (550, "5.4.4")


def test_a_null_mx_says_that_no_mail_is_taken():
    reply = refused(mx=[(0, "")], hosts={"example.net": ["192.0.2.1"]})
    assert (reply.code, str(reply.status)) == (556, "5.1.10")


def test_a_null_mx_beside_others_is_passed_over():
    found = find(mx=[(0, ""), (10, "mx.example.net")], hosts={"mx.example.net": ["192.0.2.1"]})
    assert [target.host for target in found] == ["mx.example.net"]


def test_a_domain_that_does_not_exist_is_permanent():
    reply = refused()
    assert (reply.permanent, str(reply.status)) == (True, "5.1.2")


@pytest.mark.parametrize(
    "tables",
    [
        {"mx": SERVFAIL},
        {"hosts": {"example.net": SERVFAIL}},
        {"mx": [(10, "a.example.net"), (20, "b.example.net")], "hosts": {"a.example.net": SERVFAIL}},
    ],
)
def test_a_dns_that_does_not_answer_is_temporary(tables):
    reply = refused(**tables)
    assert (reply.temporary, str(reply.status)) == (True, "4.4.3")


def test_one_exchanger_that_can_be_looked_up_is_enough():
    mx = [(10, "a.example.net"), (20, "b.example.net"), (30, "c.example.net")]
    found = find(mx=mx, hosts={"a.example.net": SERVFAIL, "c.example.net": ["192.0.2.3"]})
    assert [target.address for target in found] == ["192.0.2.3"]


def test_a_domain_without_any_address_is_permanent():
    assert refused(hosts={"example.net": []}).permanent


def test_addresses_are_bounded_and_one_host_does_not_hide_the_others():
    hosts = {f"mx{n}.example.net": [f"192.0.{n}.{m}" for m in range(50)] for n in range(30)}
    found = find(mx=[(n, f"mx{n}.example.net") for n in range(30)], hosts=hosts)
    assert len(found) == ADDRESS_LIMIT
    assert {"mx0.example.net", "mx1.example.net", "mx2.example.net"} == {target.host for target in found}


def test_only_better_exchangers_than_this_server_are_tried():
    hosts = {f"mx{n}.example.net": [f"192.0.2.{n}"] for n in (1, 2, 3)}
    mx = [(10, "mx1.example.net"), (20, "Mail.Example.Org".lower()), (20, "mx2.example.net"), (30, "mx3.example.net")]
    assert [target.host for target in find(mx=mx, hosts=hosts, hostname="Mail.example.org")] == ["mx1.example.net"]


def test_mail_for_which_this_server_is_the_best_exchanger_makes_no_circle():
    reply = refused(mx=[(10, "mail.example.org"), (20, "mx.example.net")], hosts={"mx.example.net": ["192.0.2.1"]})
    assert (reply.permanent, str(reply.status)) == (True, "5.4.6")


@pytest.mark.parametrize(("domain", "address"), [("[192.0.2.7]", "192.0.2.7"), ("[IPv6:2001:db8::7]", "2001:db8::7")])
def test_an_address_literal_is_connected_to_without_the_dns(domain, address):
    resolver = TableResolver()
    assert run(find_targets(resolver, domain, port=2525, hostname="x")) == [Target(address, address, 2525)]
    assert resolver.asked == []


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_smarthost_may_be_an_address(address):
    assert run(find_addresses(TableResolver(), [address], port=587)) == [Target(address, address, 587)]
