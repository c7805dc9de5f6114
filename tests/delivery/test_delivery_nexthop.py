"""Which servers are asked for a domain, in which order (RFC 5321 §5)."""

import pytest

from mailserver.delivery.nexthop import ADDRESSES_PER_HOST, HOST_LIMIT, Site, Unroutable, addresses, exchangers
from mailserver.delivery.routes import BY_MX
from tests.support.fakes import run
from tests.support.remote import SERVFAIL, TableResolver


def find(domain="example.net", *, mx=None, hosts=None, hostname="mail.example.org"):
    """Names in the order in which they are tried."""
    resolver = TableResolver({domain: mx} if mx is not None else {}, hosts or {})
    found = run(exchangers(resolver, domain, hostname=hostname))
    return [name for group in Site("key", BY_MX, found).by_preference() for name in group]


def refused(**arguments):
    with pytest.raises(Unroutable) as caught:
        find(**arguments)
    return caught.value.reply


def test_exchangers_are_tried_by_preference():
    found = find(mx=[(30, "mx3.example.net"), (10, "mx1.example.net"), (20, "mx2.example.net")])
    assert found == ["mx1.example.net", "mx2.example.net", "mx3.example.net"]


def test_equal_exchangers_share_the_load():
    names = {f"mx{n}.example.net" for n in range(4)}
    assert {find(mx=[(10, name) for name in sorted(names)])[0] for _ in range(200)} == names


def test_of_many_equal_exchangers_each_has_its_chance():
    mx = [(10, f"mx{n}.example.net") for n in range(HOST_LIMIT + 5)]
    assert len(find(mx=mx)) == HOST_LIMIT
    assert {name for _ in range(200) for name in find(mx=mx)} == {name for _, name in mx}


def test_without_mx_the_domain_itself_is_the_exchanger():
    assert find(hosts={"example.net": ["2001:db8::1", "192.0.2.1"]}) == ["example.net"]


def test_with_mx_the_domain_itself_is_never_tried():
    assert find(mx=[(10, "gone.example.net")], hosts={"example.net": ["192.0.2.1"]}) == ["gone.example.net"]


def test_a_null_mx_says_that_no_mail_is_taken():
    reply = refused(mx=[(0, "")], hosts={"example.net": ["192.0.2.1"]})
    assert (reply.code, str(reply.status)) == (556, "5.1.10")


def test_a_null_mx_beside_others_is_passed_over():
    assert find(mx=[(0, ""), (10, "mx.example.net")]) == ["mx.example.net"]


def test_a_domain_that_does_not_exist_is_permanent():
    reply = refused()
    assert (reply.permanent, str(reply.status)) == (True, "5.1.2")


def test_a_domain_that_is_no_domain_name_is_permanent():
    assert refused(domain="a\u2028b.example").permanent


def test_a_dns_that_does_not_answer_is_temporary():
    reply = refused(mx=SERVFAIL)
    assert (reply.temporary, str(reply.status)) == (True, "4.4.3")
    with pytest.raises(Unroutable) as caught:
        run(addresses(TableResolver({}, {"mx.example.net": SERVFAIL}), "mx.example.net"))
    assert str(caught.value.reply.status) == "4.4.3"


def test_addresses_are_bounded():
    hosts = {"mx.example.net": [f"192.0.2.{n}" for n in range(50)]}
    assert run(addresses(TableResolver({}, hosts), "mx.example.net")) == hosts["mx.example.net"][:ADDRESSES_PER_HOST]


def test_a_name_without_address_has_none():
    assert run(addresses(TableResolver(), "gone.example.net")) == []


def test_only_better_exchangers_than_this_server_are_tried():
    mx = [(10, "mx1.example.net"), (20, "mail.example.org"), (20, "mx2.example.net"), (30, "mx3.example.net")]
    assert find(mx=mx, hostname="Mail.example.org") == ["mx1.example.net"]


def test_mail_for_which_this_server_is_the_best_exchanger_makes_no_circle():
    reply = refused(mx=[(10, "mail.example.org"), (20, "mx.example.net")])
    assert (reply.permanent, str(reply.status)) == (True, "5.4.6")


@pytest.mark.parametrize(("domain", "address"), [("[192.0.2.7]", "192.0.2.7"), ("[IPv6:2001:db8::7]", "2001:db8::7")])
def test_an_address_literal_is_connected_to_without_the_dns(domain, address):
    resolver = TableResolver()
    (host,) = run(exchangers(resolver, domain, hostname="x"))
    assert run(addresses(resolver, host.name)) == [address]
    assert resolver.asked == []
