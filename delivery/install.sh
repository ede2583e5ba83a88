#!/bin/sh
# Makes the agent's user and its Python environment; run as root, again at will.
# A library is installed only if it is the very file that requirements.txt names by its hash.
set -eu
prefix=/opt/decentralized-trust

# One number on all VMs: files on the share belong to it.
getent passwd ledger >/dev/null || useradd --system --uid 64100 --no-create-home --shell /usr/sbin/nologin ledger
[ -x "$prefix/venv/bin/python" ] || python3 -m venv "$prefix/venv"
"$prefix/venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir \
    --require-hashes --only-binary :all: --requirement "$prefix/requirements.txt"
# Where the share is mounted; empty, and nobody's, until it is.
mkdir -p {share}
systemctl daemon-reload
systemctl enable --now ledger-agent.service
# A share that can't be mounted yet must not end the installation.
systemctl enable --now --no-block ledger-share.service
