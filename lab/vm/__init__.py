"""A VM as Azure boots it, on this machine: systemd, and cloud-init with its Azure data source and a planned stack.

The guest runs in QEMU without hardware support, in a network namespace where stand-ins answer for the platform: DHCP,
names, the metadata service and the wire server, the vaults, a share over NFS 4.1, and a mirror of packages.
"""
