#!/bin/sh
# Makes the programs' user and Python environment, installs the ledger, starts what is to run; by root, again at will.
# Arguments: those of ledger.install; without any, no ledger is installed.
# A library is installed only if it is the very file that requirements.txt names by its hash.
set -eu
prefix=/opt/decentralized-trust
archive="$prefix/source.tar.xz"

# One number on all VMs: files on the share belong to it.
getent passwd ledger >/dev/null || useradd --system --uid 64100 --no-create-home --shell /usr/sbin/nologin ledger
[ -x "$prefix/venv/bin/python" ] || python3 -m venv "$prefix/venv"
"$prefix/venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir \
    --require-hashes --only-binary :all: --requirement "$prefix/requirements.txt"

# Custom data has half of the sources, user data the other, which Azure's metadata service tells. An image has them all.
if [ -f "$archive.sha256" ]; then
    if ! sha256sum --check --status "$archive.sha256"; then
        curl --fail --silent --show-error --noproxy '*' --retry 30 --retry-delay 2 --retry-all-errors \
            --max-time 10 --header Metadata:true --output "$archive.second" \
            "${METADATA:-http://169.254.169.254}/metadata/instance/compute/userData?api-version=2021-02-01&format=text"
        base64 --decode "$archive.second" | cat "$archive.first" - >"$archive"
        sha256sum --check "$archive.sha256"
    fi
    rm -rf "$prefix/source"
    mkdir "$prefix/source"
    tar --extract --xz --file "$archive" --directory "$prefix/source" --no-same-owner
fi

if [ $# -gt 0 ]; then
    # A repository may be away for a while, and nothing runs this again: a VM that gave up is ill until it is made anew.
    attempt=1
    # Root's home: without --repository Maven fetches, and keeps there what it got, its own plugins unverified among it.
    until (cd "$prefix/source" && HOME=/root PYTHONDONTWRITEBYTECODE=1 "$prefix/venv/bin/python" -m ledger.install "$@"); do
        [ "$attempt" -lt 20 ] || exit 1
        attempt=$((attempt + 1))
        sleep 30
    done
fi

# Where the share is mounted; empty, and nobody's, until it is.
mkdir -p {share}
systemctl daemon-reload
for unit in ledger-agent ledger-authority; do
    # Which of them a VM runs says its configuration.
    [ ! -f "/etc/systemd/system/$unit.service" ] || systemctl enable --now "$unit.service"
done
# A share that can't be mounted yet must not end the installation.
[ ! -f /etc/systemd/system/ledger-share.service ] || systemctl enable --now --no-block ledger-share.service
