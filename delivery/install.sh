#!/bin/sh
# Run by root; may be repeated. Arguments: those of ledger.install; without any, no ledger is installed.
set -eu
prefix=/opt/decentralized-trust
archive="$prefix/source.ppmd"

# The same numbers on all VMs: files on the share have them as owners.
awk 'BEGIN {
    print "u {user} {number}"
    for (i = 1; i <= {nodes}; i++) print "u ledger-node-" i, {first_node} + i - 1
    print "u {tool} {tool_number}"
}' | systemd-sysusers -
[ -x "$prefix/venv/bin/pip" ] || python3 -m venv "$prefix/venv"
"$prefix/venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir \
    --require-hashes --only-binary :all: --requirement "$prefix/requirements.txt"

# An image has the sources already.
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
    "$prefix/venv/bin/python" - "$archive" "$prefix/source" <<'END'
{unpack}END
fi

if [ $# -gt 0 ]; then
    # Nothing else retries when a repository is unavailable.
    attempt=1
    # HOME: Maven's cache.
    until (cd "$prefix/source" && HOME=/root PYTHONDONTWRITEBYTECODE=1 "$prefix/venv/bin/python" -m ledger.install "$@"); do
        [ "$attempt" -lt 20 ] || exit 1
        attempt=$((attempt + 1))
        sleep 30
    done
fi

mkdir -p {share}
systemctl daemon-reload
# The share is mounted while the agent starts. In an image systemd skips all of them.
[ ! -f /etc/systemd/system/ledger-share.service ] || systemctl enable --now --no-block ledger-share.service
for unit in ledger-agent ledger-authority; do
    [ ! -f "/etc/systemd/system/$unit.service" ] || systemctl enable --now "$unit.service"
done
