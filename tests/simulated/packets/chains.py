"""A packet in the chains of one hook."""

from __future__ import annotations

from packets.meeting import Meeting, Step
from packets.statements import ACCEPT, CONTINUE, DROP, GOTO, JUMP, RETURN, Verdict
from packets.table import OneTable, SimTable, Stage

#: Chains that lead to one another deeper than the kernel allows (NFT_JUMP_STACK_SIZE).
DEEPEST = 16
_DROPPED = Verdict(DROP)


def chain_verdict(met: Meeting, tables: SimTable, stage: Stage) -> tuple[Verdict, Step] | None:
    """What a base chain says of it, by which rule, unless that is to accept it."""
    table = tables.tables[stage.table]
    met.table = table
    found = _meet(met, table, stage.chain, 0)
    if found is None:
        if stage.hook is not None and stage.hook.policy == "drop":
            return _DROPPED, (stage.chain, "policy drop")
        return None
    return None if found.kind == ACCEPT else (found, met.steps[-1])


def _meet(met: Meeting, table: OneTable, chain: str, depth: int) -> Verdict | None:
    """The verdict that ends it, None: it comes to the end of the chain."""
    if depth > DEEPEST:
        raise RecursionError(f"chains lead to one another too deep: {chain}")
    for rule in table.program(chain):
        found: Verdict | bool = True
        for part in rule.parts:
            found = part.run(met)
            if found is not True:
                break
        if found is False:
            continue
        met.steps.append((chain, rule.text))
        if found is True:
            continue
        kind = found.kind
        if kind == JUMP:
            led = _meet(met, table, found.to, depth + 1)
            if led is not None:
                return led
        elif kind == GOTO:
            return _meet(met, table, found.to, depth + 1)
        elif kind == RETURN:
            return None
        elif kind != CONTINUE:
            return found
    return None
