"""BGP figures beside BIRD, GoBGP and FRR: idle sessions, convergence, one change, peers coming up, memory.

Run as root: `python bench/bgp.py [--full] [--rounds 5] [--only idle,announce,receive,single,peers]`.
Each speaker runs in the same place, a host of its own (network, process and mount namespaces) on a veth
link, one after the other. What is timed:

- announce, withdraw: from the order (l3net: a manifest renamed into place that opens an export filter; BIRD:
  `enable` of a static protocol; GoBGP: a stream of paths over gRPC; FRR: its outbound route map lifted, by
  vty) until another bgpd counts all, or none;
- receive: from lifting FRR's outbound route map until the kernel's table holds all prefixes (l3net, BIRD),
  or the global RIB does (GoBGP, which has no kernel side); `ip -batch` alone is the kernel's own share;
- single: from the order to withdraw one prefix (l3net: an EndpointSlice renamed into place) to the UPDATE's
  arrival at a speaker that notes the time; on an idle session, and amid a burst of 10,000 announcements;
- idle: processor time in hundredths of a core, of each process, with four sessions (hold time 90 s) and
  KEEPALIVEs alone; `all` is what the node pays;
- peers: from the order until the last of so many sessions is established, as the far side sees it.

The far side of the first two is FRR's bgpd without zebra. 100,000 prefixes and 200 peers with --full.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from speakers.contestants import Bird, ExaBgpAlone, FrrNear, Gobgp, Ours  # noqa: E402
from speakers.place import FAR, Place, SinkLog, median, percentile, prefixes, until  # noqa: E402

CONTESTANTS = (Ours, Bird, Gobgp)
Speaker = Ours | Bird | Gobgp
#: Those who are told what to announce; what FRR receives shows at the other end.
ANNOUNCERS = (*CONTESTANTS, FrrNear)
Announcer = Speaker | FrrNear
MID_BURST = 10_000
IDLE_PEERS = 4
IDLE_SECONDS = 10
#: Seconds for each route between two looks at how many there are: the kernel counts them one by one.
LOOK = 0.5e-6


@dataclass
class Row:
    """Times in milliseconds (idle: hundredths of a core), memory in MiB by process."""

    what: str
    who: str
    times: list[float] = field(default_factory=list)
    rss: dict[str, float] = field(default_factory=dict)


def announce(who: type[Announcer], number: int, rounds: int) -> list[Row]:
    rows = [Row(f"announce {number}", who.name), Row(f"withdraw {number}", who.name)]
    with Place() as place:
        speaker = who(place)
        frr = place.start_frr()
        speaker.start(number)
        until(frr.established, f"{who.name}'s session")
        base = who.base
        until(lambda: frr.received() == base, f"what {who.name} announces anyway")
        time.sleep(1)
        for _ in range(rounds):
            began = speaker_in_thread(speaker.burst, True)
            ended = until(lambda: frr.received() >= base + number, f"{number} from {who.name}")
            rows[0].times.append((ended - began()) * 1000)
            time.sleep(0.5)
            rows[0].rss = place.rss(**speaker.words)
            began = speaker_in_thread(speaker.burst, False)
            ended = until(lambda: frr.received() <= base, f"none from {who.name}")
            rows[1].times.append((ended - began()) * 1000)
            time.sleep(0.5)
        speaker.stop()
    return rows


def quiet(seen: Callable[[], int], seconds: float = 1.5) -> None:
    """Wait until a count has stood still for so long."""
    last, since = seen(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.1)
        if seen() != last:
            last, since = seen(), time.monotonic()


def speaker_in_thread(order: Callable[[bool], float], on: bool) -> Callable[[], float]:
    """Give an order that may take as long as the burst; the callable tells when it was given."""
    began: list[float] = []
    thread = threading.Thread(target=lambda: began.append(order(on)), daemon=True)
    thread.start()

    def when() -> float:
        thread.join()
        return began[0]

    return when


def receive(who: type[Speaker], number: int, rounds: int) -> list[Row]:
    row = Row(f"receive {number}", who.name)
    with Place() as place:
        frr = place.start_frr(prefixes(number))
        speaker = who(place)
        speaker.start(serving=False)
        until(frr.established, f"{who.name}'s session")
        seen = speaker.table if isinstance(speaker, Gobgp) else place.kernel_routes
        quiet(seen)
        base = seen()
        every = max(0.005, number * LOOK)
        for _ in range(rounds):
            began = frr.let_out(True)
            ended = until(lambda: seen() >= base + number, f"{number} at {who.name}", every=every)
            row.times.append((ended - began) * 1000)
            time.sleep(0.5)
            row.rss = place.rss(**speaker.words)
            frr.let_out(False)
            until(lambda: seen() <= base, f"none at {who.name}")
            time.sleep(0.5)
        speaker.stop()
    return [row]


def kernel_alone(number: int, rounds: int) -> list[Row]:
    """What the kernel itself takes for so many routes, in one batch."""
    row = Row(f"receive {number}", "kernel alone")
    with Place() as place:
        file = place.near.directory / "batch"
        file.write_text("".join(f"route add {each}/32 via {FAR} proto 108\n" for each in prefixes(number)))
        for _ in range(rounds):
            began = time.monotonic()
            place.near.run(["ip", "-batch", str(file)], timeout=120)
            row.times.append((time.monotonic() - began) * 1000)
            place.near.run(["ip", "route", "flush", "proto", "108"], timeout=120)
    return [row]


def single(who: type[Announcer], rounds: int) -> list[Row]:
    rows: list[Row] = []
    with Place() as place:
        sink = place.start_sink()
        speaker = who(place)
        speaker.start(MID_BURST)
        until(lambda: FAR in sink.up(), f"{who.name}'s session")
        speaker.single(True)
        sink.wait_mark("+")
        time.sleep(2)
        rows.append(idle(who.name, sink, speaker.single, rounds))
        rows.append(amid(who.name, sink, speaker.single, speaker.burst, max(3, rounds // 10)))
        if isinstance(speaker, Ours):
            place.near.kill("agent")
            until(lambda: not place.near.alive("agent"), "the agent's end")
            alone = ExaBgpAlone(place)
            alone.connect()
            alone.single(True)
            time.sleep(0.5)
            rows.append(idle(alone.name, sink, alone.single, rounds))
        speaker.stop()
    return rows


def idle(who: str, sink: SinkLog, order: Callable[[bool], float], rounds: int) -> Row:
    row = Row("one withdraw, idle", who)
    for _ in range(rounds):
        time.sleep(0.12)
        sink.skip()
        began = order(False)
        row.times.append((sink.wait_mark("-") - began) * 1000)
        time.sleep(0.12)
        sink.skip()
        order(True)
        sink.wait_mark("+")
    return row


def amid(
    who: str,
    sink: SinkLog,
    order: Callable[[bool], float],
    burst: Callable[[bool], float],
    rounds: int,
) -> Row:
    """The burst is under way when the order is given: a tenth of it has arrived, and not all of it after."""
    row = Row(f"one withdraw amid {MID_BURST}", who)
    for _ in range(rounds):
        sink.skip()
        done = speaker_in_thread(burst, True)
        until(lambda: sink.total()[0] >= MID_BURST // 10, f"{who}'s burst", every=0.001)
        began = order(False)
        at = sink.wait_mark("-")
        row.times.append((at - began) * 1000)
        until(lambda: sink.total()[0] >= MID_BURST, f"{who}'s burst", every=0.05)
        if sink.total()[2] < at:
            print(f"{who}: the burst was over before the single change", file=sys.stderr)
        done()
        sink.skip()
        done = speaker_in_thread(burst, False)
        until(lambda: sink.total()[1] >= MID_BURST, f"{who}'s withdrawals", every=0.05)
        done()
        time.sleep(0.3)
        sink.skip()
        order(True)
        sink.wait_mark("+")
    return row


def idle_sessions(who: type[Announcer], rounds: int) -> list[Row]:
    rows = {name: Row(f"idle, {name}", who.name) for name in (*who.words, "all")}
    with Place(IDLE_PEERS) as place:
        sink = place.start_sink()
        speaker = who(place)
        speaker.start(peers=place.far_addresses(), serving=False)
        until(lambda: len(sink.up()) == IDLE_PEERS, f"{IDLE_PEERS} sessions of {who.name}", every=0.1)
        time.sleep(20)
        for _ in range(rounds):
            before, began = place.cpu(**who.words), time.monotonic()
            time.sleep(IDLE_SECONDS)
            after, took = place.cpu(**who.words), time.monotonic() - began
            shares = {name: (after[name] - before[name]) / took for name in before}
            for name, share in [*shares.items(), ("all", sum(shares.values()))]:
                rows[name].times.append(share * 100)
        speaker.stop()
    return list(rows.values())


def peers(who: type[Speaker], number: int) -> list[Row]:
    row = Row(f"{number} peers up", who.name)
    with Place(number) as place:
        sink = place.start_sink()
        speaker = who(place)
        if isinstance(speaker, Gobgp):
            speaker.start(peers=place.far_addresses())
            began = speaker.started
        else:
            speaker.start(serving=False, peers=[])
            time.sleep(4)
            began = speaker.peers(place.far_addresses())
        until(lambda: len(sink.up()) == number, f"{number} sessions of {who.name}", every=0.02)
        row.times.append((max(sink.up().values()) - began) * 1000)
        time.sleep(1)
        row.rss = place.rss(**speaker.words)
        speaker.stop()
    return [row]


def show(rows: list[Row]) -> None:
    print(f"{'':26} {'':14} {'p50':>9} {'p99':>9} {'to BIRD':>8} {'to GoBGP':>9} {'to FRR':>8}  MiB")
    medians = {(row.what, row.who): median(row.times) for row in rows}
    for row in sorted(rows, key=lambda each: [other.what for other in rows].index(each.what)):
        ratios = []
        for other in ("BIRD", "GoBGP", "FRR"):
            theirs = medians.get((row.what, other))
            ratios.append(f"{medians[row.what, row.who] / theirs:.2f}" if theirs else "")
        memory = ", ".join(f"{name} {mib:.0f}" for name, mib in sorted(row.rss.items()))
        print(
            f"{row.what:26} {row.who:14} {median(row.times):9.2f} {percentile(row.times, 0.99):9.2f} "
            f"{ratios[0]:>8} {ratios[1]:>9} {ratios[2]:>8}  {memory}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="100,000 prefixes and 200 peers too")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--singles", type=int, default=50, help="rounds of single changes")
    parser.add_argument("--only", default="idle,announce,receive,single,peers")
    parser.add_argument("--sizes", help="numbers of prefixes, instead of 1000,10000[,100000]")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the place is removed
    wanted = options.only.split(",")
    sizes = [1000, 10_000, *([100_000] if options.full else [])]
    if options.sizes:
        sizes = [int(each) for each in options.sizes.split(",")]
    jobs: list[Callable[[], list[Row]]] = []
    if "idle" in wanted:
        every = max(3, options.rounds)
        jobs += [lambda who=who: idle_sessions(who, every) for who in ANNOUNCERS]
    for number in sizes:
        rounds = options.rounds if number < 100_000 else min(3, options.rounds)
        if "announce" in wanted:
            jobs += [lambda who=who, n=number, r=rounds: announce(who, n, r) for who in ANNOUNCERS]
        if "receive" in wanted:
            jobs += [lambda who=who, n=number, r=rounds: receive(who, n, r) for who in CONTESTANTS]
            jobs.append(lambda n=number, r=rounds: kernel_alone(n, r))
    if "single" in wanted:
        jobs += [lambda who=who: single(who, options.singles) for who in ANNOUNCERS]
    if "peers" in wanted:
        for number in (50, 200) if options.full else (50,):
            jobs += [lambda who=who, n=number: peers(who, n) for who in CONTESTANTS]
    rows: list[Row] = []
    for job in jobs:
        made = job()
        rows += made
        for row in made:
            print(f"{row.what}, {row.who}: {median(row.times):.2f}", file=sys.stderr, flush=True)
    if options.output == "json":
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print(f"{os.cpu_count()} cores, load {' '.join(f'{each:.1f}' for each in os.getloadavg())}\n")
    show(rows)


if __name__ == "__main__":
    main()
