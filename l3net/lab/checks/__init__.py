"""What a lab must show, as named checks: each says what it expected and what it saw, and each can fail."""

from l3net.lab.checks.catalogue import CHECKS as CHECKS
from l3net.lab.checks.report import Check as Check
from l3net.lab.checks.report import CheckResult as CheckResult
from l3net.lab.checks.report import run_checks as run_checks
