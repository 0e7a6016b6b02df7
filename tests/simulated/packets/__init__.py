"""What a packet meets in a simulated node: the nftables text that l3net writes, connection tracking, routes.

It is an interpreter of that text and not of all of nftables: an expression that it does not know is an error
by name (`parsing.UnknownError`) before any packet meets it.

Modelled, as the kernel does it (held against it by test_packets_kernel.py):
 - hooks in the order of their priorities; of two chains of one priority the later one is met first. Chains of
   type nat are met where translation is (-100, in postrouting 100) in the order of their own priorities, by
   the first packet of a connection alone, until one translates; untracked or invalid ones do not meet them;
 - base chain policies; accept ends a base chain and not the hook, drop ends all; jump, goto and return;
 - look-ups of one value or of several, in sets, maps and verdict maps, with prefixes, ranges, masks; elements
   with a timeout, and those that packets add (`add @`, `update @`);
 - what is not there to be read (another family, another protocol, no connection) ends a rule, also with `!=`;
 - connections: new, established, related (ICMP errors, whose packets inside are translated back), invalid,
   untracked; status, mark, the original direction; a segment that is no SYN and belongs to nothing begins
   one (nf_conntrack_tcp_loose), with RST, FIN or SYN-ACK it is invalid. What is dropped
   begins none, and is seen of one that there is;
 - dnat, snat and masquerade, in both directions, with another source port where the tuple is taken, or
   (fully-random) in any case;
 - the ways of EgressIPs: what comes from a pod with a mark of one leaves by the envelope;
 - output: the route is chosen before, and once more after translation; `oifname` in the hook stays the first;
 - `numgen`, `jhash` (calculated as the kernel does, or left open), ECMP and a `limit` that decides something
   are choices: all their outcomes are told, each with what was chosen;
 - `dup` sends its copy, untracked, through output and postrouting, and the hop count goes down;
 - routes by length and metric, local addresses before all, blackholes, hop limits, IPv4's martian sources.

Not modelled: packets in the midst of a transaction (one is there as a whole), TCP windows (a packet says
whether it is in it: `Packet.in_window`), closing handshakes but for the end of an entry, fragments, IP
options and extension headers, sizes and MTU (but for MSS), checksums, ARP and neighbour discovery, rp_filter,
br_netfilter, other policy routing, multicast, what limits let through over time, quotas, expectations of
connection tracking, connections that are set up in the same instant. The table `bridge l3net` is kept, but
nobody walks through it.
"""
