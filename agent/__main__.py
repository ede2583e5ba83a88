"""The agent of a node VM: `ledger-agent [CONFIGURATION]`; systemd starts it as `python -m agent`."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.vm import azure, run
from contract.vm_configuration import AGENT_FILE, AgentConfiguration
from host import journal
from host.vm_configuration import ConfigurationError, read_agent_configuration
from ledger import PLATFORMS


async def _run_on_azure(configuration: AgentConfiguration) -> None:
    async with azure(configuration) as cloud:
        await run(configuration, cloud)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent with a configuration file; returns the exit status, 78 (EX_CONFIG) if the file is unusable."""
    arguments = sys.argv[1:] if arguments is None else arguments
    journal.set_up()
    try:
        configuration = read_agent_configuration(Path(arguments[0]) if arguments else AGENT_FILE)
        if configuration.platform not in PLATFORMS:
            raise ConfigurationError(
                f"platform: {configuration.platform!r}; wanted one of {', '.join(sorted(PLATFORMS))}"
            )
    except ConfigurationError as error:
        journal.refuse(error)
        return os.EX_CONFIG
    asyncio.run(_run_on_azure(configuration))
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
