"""How the agent gets onto a VM: cloud-init's document, the systemd unit, the locked libraries."""
