"""Services that came and went leave nothing behind but the tables of empty dictionaries."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sized
from ipaddress import ip_address

from l3net.model import Endpoint, EndpointSlice, ObjectName, Service, ServicePort
from l3net.services.book import ServiceBook

MANY = 800


def come_and_go(book: ServiceBook) -> None:
    names = [ObjectName("default", f"s{index}") for index in range(MANY)]
    for index, name in enumerate(names):
        address = ip_address(f"10.96.{index // 250}.{index % 250 + 1}")
        book.put_service(name, Service(name, cluster_ips=(address,), ports=(ServicePort("", "TCP", 80),)))
        endpoint = Endpoint(ip_address(f"10.244.{index // 250}.{index % 250 + 1}"))
        book.put_slice(name, EndpointSlice(name, name, (endpoint,), {"": ("TCP", 8080)}))
    book.settle()
    assert len(book.servers) == MANY, "the control: they were there"
    for name in names:
        book.put_service(name, None)
        book.put_slice(name, None)
    book.settle()


def test_nothing_of_them_is_kept_and_the_second_thousand_costs_what_the_first_did() -> None:
    book = ServiceBook()
    come_and_go(book)
    kept = {name: len(value) for name, value in vars(book).items() if isinstance(value, Sized) and len(value)}
    assert not kept
    gc.collect()
    tracemalloc.start()
    try:
        come_and_go(book)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2):
            come_and_go(book)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 64 * 1024
    finally:
        tracemalloc.stop()
