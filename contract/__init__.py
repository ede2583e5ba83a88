"""What the stack, its VMs and the other members agree on. Pure: no Pulumi, no Azure client, no input or output."""
