"""The nftables table of ours, by the nft command, in the network namespace of the process."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
import struct
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from l3net.errors import KernelError, RefusedError
from l3net.firewall.policy import ENDED, LATE
from l3net.firewall.ruleset import FAMILIES, deletion
from l3net.firewall.sticky import CLIENTS
from l3net.naming import NFT_TABLE
from l3net.shell.kernel import nftelements, nftsets
from l3net.shell.kernel.netlink import NETLINK_NETFILTER, Netlink
from l3net.shell.kernel.nftcommand import find_nft

#: Seconds after which nft is given up; ten thousand services take a few.
_PATIENCE: Final = 120.0
_TRIES: Final = 3
#: Characters of a rule set that takes seconds to list.
_LARGE: Final = 512 * 1024
#: Seconds without a change after which an amended table is listed, to know it again.
_QUIET: Final = 60.0
#: Own transactions that are remembered until they are heard of.
_REMEMBERED: Final = 64
#: Sets whose members come and go by themselves are no part of what is compared.
_FILLED: Final = re.compile(
    rb"\tset (?:%s[46]-|%s[46] |%s[46] ).*?\n\t}\n" % (CLIENTS.encode(), ENDED.encode(), LATE.encode()),
    re.DOTALL,
)
_MESSAGE = re.compile(r"Error: (.*)")
_CODES: Final = {
    os.strerror(code): code
    for code in (errno.EPERM, errno.EBUSY, errno.ENOMEM, errno.ENOENT, errno.EEXIST, errno.ENOBUFS)
}

#: linux/netfilter/nfnetlink.h and nf_tables.h: NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN, NFTA_GEN_ID.
_GETGEN: Final = (10 << 8) | 16
_GEN_ID: Final = 1


def generation() -> int:
    """The kernel's count of nftables transactions in this network namespace. Raises KernelError."""
    # struct nlmsghdr (length, type, NLM_F_REQUEST, sequence, port) and struct nfgenmsg (family, version, id).
    request = struct.pack("=IHHIIBBH", 20, _GETGEN, 1, 1, 0, 0, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
            netlink.send(request)
            answer = netlink.recv(8192)
    except OSError as err:
        raise KernelError("nftables: generation", err.errno or 0) from err
    offset = 20
    while offset + 4 <= len(answer):
        length, kind = struct.unpack_from("=HH", answer, offset)
        if kind & 0x3FFF == _GEN_ID:
            return int.from_bytes(answer[offset + 4 : offset + 8], "big")
        offset += max(4, (length + 3) & ~3)
    raise KernelError("nftables: generation", errno.EPROTO)


class NftTable:
    """A ports.Firewall over `table inet l3net`, and those of ip and ip6 where a section has any.

    `followed`: a monitor tells of each transaction on it (`touched`), so that those of others on other
    tables do not make it doubtful. Else the kernel's count of all transactions is gone by.
    """

    def __init__(self, nft: str | None = None, *, followed: bool = False) -> None:
        self._nft = nft or find_nft()
        self._followed = followed
        self._missed = True  # a transaction on our table may have been, of which nothing was heard
        self._heard: set[int] = set()
        self._replaced = -1  # the count before the table was made anew
        self._own: list[tuple[int, int]] = []  # our transactions: counts before and after
        self._applied: bytes | None = None  # digest of the listing; None: not known, or not in force
        self._generation = -1  # as of which the table is known to be as applied; -1: it is not
        self._amended = 0.0  # when the listing ceased to be what the digest is of

    def apply(self, ruleset: str) -> None:
        """Replace the whole table in one transaction: all of it, or nothing. Raises KernelError.

        Connections that are established are not touched: their translation is conntrack's by now.
        """
        self._applied, self._generation = None, -1
        for _ in range(_TRIES):
            before = generation()
            self._missed, self._replaced = False, before
            self._own.clear()
            self._run(ruleset)
            self._amended = time.monotonic()
            self._applied = self._listing() if len(ruleset) < _LARGE else None  # later, when all is quiet
            self._generation = generation()
            self._own.append((before, self._generation))
            if self._generation == before + 1 or self._followed:
                return
            # Someone else changed nftables meanwhile; what was listed may not be what was applied.
        if self._applied is None:
            self._generation = -1

    def amend(self, transaction: str) -> None:
        """Change elements of the table in force, all or nothing. Raises KernelError.

        The table is not listed, since that takes as long as the table is large: `intact` goes by the
        kernel's count of transactions, and lists it when all has been quiet for a while.
        """
        before = generation()
        known = before == self._generation
        self._change(transaction)
        now = generation()
        self._own.append((before, now))
        if len(self._own) > _REMEMBERED:
            del self._own[0]
        self._applied, self._amended = None, time.monotonic()
        # Any other transaction, before or meanwhile, may have been on our table.
        self._generation = now if known and now == before + 1 else -1

    def intact(self) -> bool:
        """Whether the kernel lists the table as it did right after the last apply. Raises KernelError.

        It is listed only when any transaction at all was made since it was looked at last. After `amend`
        there is nothing to compare with for a while; someone else's transaction makes it doubtful then,
        unless a monitor tells which table it was on.
        """
        if self._followed and not self._missed:
            return not self._others()
        now = generation()
        if now == self._generation:
            if self._applied is None and time.monotonic() - self._amended > _QUIET:
                listed = self._listing()
                self._applied = listed if generation() == now else None
            return True
        if self._applied is None or self._listing() != self._applied:
            return False
        self._generation = now
        self._missed = False
        return True

    def there(self) -> bool:
        """See ports.Firewall."""
        done = self._call(["list", "tables", "inet"])
        return f"table inet {NFT_TABLE}\n".encode() in done.stdout

    def touched(self, generation: int | None) -> None:
        """What a monitor heard: see ports.Firewall."""
        if generation is None:
            self._missed = True
        else:
            self._heard.add(generation)

    def _others(self) -> bool:
        """Whether somebody else changed our table: more was heard of than we did.

        Where somebody else's transaction came between our looks at the count, ours is one of a few; what is
        heard beyond one of these is not ours.
        """
        waiting = []
        for before, now in self._own:
            ours = next((each for each in range(now, before, -1) if each in self._heard), None)
            if ours is None:
                waiting.append((before, now))  # not heard of yet, or it changed nothing
            else:
                self._heard.discard(ours)
        self._own = waiting
        # What was there before the table was made anew is gone.
        self._heard = {each for each in self._heard if each > self._replaced}
        return bool(self._heard)

    def clients(self, names: Collection[str]) -> Mapping[str, Sequence[str]]:
        """What sets that packets fill hold: see ports.Firewall."""
        return {name: [str(each) for each in found] for name, found in nftsets.members(names).items()}

    def remove(self) -> None:
        """Take the table away; already gone is success. Raises KernelError."""
        self._run(deletion(), "delete")
        self._applied, self._generation = None, -1

    def _listing(self) -> bytes | None:
        """A digest of the tables without counters; None if that of all sections is not there."""
        digest = hashlib.sha256()
        for family in FAMILIES:
            done = self._call(["-s", "list", "table", family, NFT_TABLE])
            if done.returncode == 0:
                digest.update(_FILLED.sub(b"", done.stdout))
            elif os.strerror(errno.ENOENT).encode() not in done.stderr:
                raise KernelError(*_failure("list", done.stderr))
            elif family == FAMILIES[0]:
                return None
        return digest.digest()

    def _change(self, transaction: str) -> None:
        """Elements alone by netlink, all else by nft."""
        messages = nftelements.requests(transaction)
        if not messages:
            self._run(transaction, "change")
            return
        with Netlink(NETLINK_NETFILTER) as netlink:
            code = netlink.commit(messages, nftelements.NFTABLES)
        if code:
            raise RefusedError(f"nft cannot change table inet {NFT_TABLE} ({os.strerror(code)})", code)

    def _run(self, text: str, doing: str = "replace") -> None:
        done = self._call(["-f", "-"], text.encode())
        if done.returncode > 0:
            raise RefusedError(*_failure(doing, done.stderr))
        if done.returncode < 0:  # ended by a signal, before or after the kernel took it
            raise KernelError(*_failure(doing, done.stderr))

    def _call(self, arguments: list[str], text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                [self._nft, *arguments],
                input=text,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
                env={"LC_ALL": "C", "PATH": os.defpath},
            )
        except subprocess.TimeoutExpired:
            raise KernelError(f"nft did not finish within {_PATIENCE:.0f} s", errno.ETIMEDOUT) from None
        except OSError as err:
            raise KernelError(f"{self._nft} cannot be run", err.errno or 0) from err


def _failure(doing: str, stderr: bytes) -> tuple[str, int]:
    """What nft could not do and why, and the errno of it."""
    text = stderr.decode(errors="replace")
    found = _MESSAGE.search(text)
    why = found[1] if found else text.strip().partition("\n")[0]
    code = next((code for words, code in _CODES.items() if words in text), errno.EINVAL)
    return f"nft cannot {doing} table inet {NFT_TABLE} ({why})", code
