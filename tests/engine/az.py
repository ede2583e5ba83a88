"""Stands in for Azure's CLI in tests of the guide: answers from the offline Azure in the file AZURE."""

import os
import sys
from itertools import pairwise
from pathlib import Path

from lab.azure.azure import Account, OfflineAzure, Subscription

_SIGNING_IN = ("login", "account set", "provider register", "feature register")


def main(arguments: list[str]) -> int:
    """Answer one command; returns the exit status, 2 for a command that the guide has not."""
    azure = OfflineAzure(Path(os.environ["AZURE"]))
    named = dict(pairwise(arguments))
    command = " ".join(arguments[: next((i for i, each in enumerate(arguments) if each.startswith("--")), None)])
    if command in _SIGNING_IN:
        return 0
    group = f"/resourceGroups/{named['--resource-group']}/"
    own = {id_: each for id_, each in azure.resources.items() if group in id_}
    match command:
        case "vm list":
            prefix = named["--query"].split("'")[1]
            vms = [
                f"{name}_{number}"
                for each in own.values()
                if each.short == "compute:VirtualMachineScaleSet"
                and (name := each.id.rsplit("/", 1)[1]).startswith(prefix)
                for number in range(int(each.inputs["sku"]["capacity"]))
            ]
            print(*(vms[:1] if named["--query"].endswith("| [0]") else vms), sep="\n")
        case "network vpn-connection show":
            (found,) = [each for id_, each in own.items() if id_.endswith(f"/connections/{named['--name']}")]
            read = Subscription(azure, Account("", found.subscription_id, "")).read(found.id, {})
            assert read is not None
            print(read[1]["connectionStatus"])
        case "vm run-command invoke":
            # No VM runs here: tests/unit/test_health.py tests its report.
            print(named["--name"], named["--scripts"])
        case _:
            print(f"az {command}: unknown here", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
