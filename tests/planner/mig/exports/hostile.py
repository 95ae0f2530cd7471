"""Names as an attacker would choose them for a node, a GPU or a workload."""

from typing import Any

from planner.mig.plan import ChangePlan, Mode
from planner.mig.problem import Problem
from tests.planner.mig.plans import gpu, planned, problem

NAMES = (
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    'a"; touch pwned; "',
    "a\ntouch pwned\n",
    "a\r\ntouch pwned",
    "--kubeconfig=/tmp/evil",
    "-n",
    "../../etc/cron.d/x",
    "..",
    "a # b",
    "a: {b: [c",
    "a\x00b",
    "\u2028touch pwned",
    "\x1b[2Jcleared",
    "*",
    "A",
    "a",
    "node.rollback",
    "node",
    "x" * 300,
    "знак",
)


def hostile_plan() -> tuple[Problem, ChangePlan]:
    """Every name is a node of two GPUs, whose work moves onto the first."""
    gpus: list[dict[str, Any]] = []
    workloads = []
    for number, name in enumerate(NAMES):
        for index in (0, 1):
            who = f"{name} {number}.{index}"
            gpus.append(gpu(f"{name}/{number}/{index}", name, ("1g.5gb", 0, who)))
            workloads.append({"id": who, "profile": "1g.5gb", "tenant": name})
    asked = problem(gpus=gpus, workloads=workloads, rules={"isolated_tenants": "all"})
    return asked, planned(asked, Mode.RECONFIGURE)
