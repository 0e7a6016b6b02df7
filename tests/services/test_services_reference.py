

def made(batch: int, count: int) -> list[Document]:
    maker = Maker(f"services {batch}", tuple(SPOTS.values()), (ME, ELSEWHERE), RANGES)
    return [document for _ in range(count) for document in maker.service()]


def decided(state: ClusterState, packet: Packet) -> Answer:
    """What the virtual servers of this node say of a packet."""
    servers = {server.key: server for server in virtual_servers(state, ME)}
    address, protocol = ip_address(packet.address), packet.protocol.lower()
    server = servers.get((address, protocol, packet.port))
    if server is None and packet.address in UPLINK.values():
        server = servers.get((unspecified(address.version), protocol, packet.port))
    if server is None:
        return Fate.NO_SERVICE
    if server.sources is not None and not any(ip_address(packet.source) in each for each in server.sources):
        return Fate.DROPPED
    backends = server.external if packet.origin is Origin.OUTSIDE else server.internal
    return frozenset((str(each.address), each.port) for each in backends) or Fate.REFUSED


@pytest.mark.parametrize("batch", [*range(4), *(pytest.param(each, marks=pytest.mark.soak) for each in range(4, 100))])
def test_what_is_decided_is_what_the_documents_say(batch: int) -> None:
    services = made(batch, 100)
    node, state = cluster()[0], declared([*cluster(), *services])
    fates = set[Any]()
    for packet in packets(services):
        expected = answer(services, node, packet)
        assert decided(state, packet) == expected, packet
        fates.add(expected if isinstance(expected, Fate) else len(expected))
    assert fates >= {*Fate, 1, 2, 3}  # all of them occur
