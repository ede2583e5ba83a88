"""Java, configured as for a node, fetches revocation lists through its own VM, with hard-fail checks."""

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from ledger.corda import IDENTITY_KEY, NODE_CA_KEY, TLS_KEY, certificates
from ledger.corda.authority.signing import revocation_list
from ledger.corda.certificates import CertificateRole
from ledger.corda.revocation import Revocations, list_url
from ledger.corda.software import PROXY_PROPERTIES, REVOCATION_PROPERTIES
from tests.certificates import NAME, below, make_network
from tests.software_context import MemoryDocuments

HERE = Path(__file__).parent


@pytest.mark.skipif(not shutil.which("java"), reason="no Java here")
def test_java_accepts_only_chains_with_a_valid_revocation_list(tmp_path: Path) -> None:
    now, keys = datetime.now(UTC), certificates.make_keys()
    network = make_network(now)
    key = certificates.read_key(keys, TLS_KEY)
    # Java leaves the loopback out of its proxy by default, and a node's Java does not.
    url = "http://127.0.0.1:1/identity-ca.crl"
    good, bad, unlisted = (
        network.certify(CertificateRole.TLS, key, NAME, now=now, crl_url=each) for each in (url, url, None)
    )
    revoked, ahead = {bad[0].serial_number: now}, timedelta()

    async def fetch(asked: str) -> bytes:
        issuer, signer = (network.ca, network.ca_key) if asked == url else (network.root, network.root_key)
        listed = revoked if asked == url else {}
        builder = revocation_list(issuer, 1 + ahead.days, listed, now=now + ahead, lifetime=timedelta(days=90))
        return builder.sign(signer, SHA256()).public_bytes(Encoding.DER)

    async def issuers() -> dict[str, x509.Certificate]:
        return {url: network.ca, list_url(network.ca) or "": network.root}

    async def story() -> None:
        nonlocal ahead
        lists = Revocations(MemoryDocuments(), issuers, fetch=fetch)
        lists._root = network.root
        await lists.refresh()
        port = await lists.serve("127.0.0.1", 0)

        async def check(days: int, chain: Sequence[x509.Certificate], port: int = port) -> str:
            files = []
            for number, each in enumerate((network.root, *chain[:-1])):
                files.append(tmp_path / f"{number}.cer")
                files[-1].write_bytes(each.public_bytes(Encoding.DER))
            properties = {
                **REVOCATION_PROPERTIES,
                **PROXY_PROPERTIES,
                "http.proxyHost": "127.0.0.1",
                "http.proxyPort": str(port),
            }
            java = await asyncio.create_subprocess_exec(
                *("java", *(f"-D{name}={value}" for name, value in properties.items())),
                *(str(HERE / "ValidateCertPath.java"), str(days), *map(str, files)),
                stdout=subprocess.PIPE,
            )
            return (await java.communicate())[0].decode().strip()

        assert await check(0, good) == "valid"
        assert await check(80, good) == "valid", "a list outlasts an authority that is unavailable for 80 days"
        assert await check(95, good) == "UNDETERMINED_REVOCATION_STATUS", "the list has expired"
        assert await check(0, bad) == "REVOKED"
        assert await check(0, unlisted) == "UNDETERMINED_REVOCATION_STATUS", "its certificate names no list"
        assert await check(0, good, 1) == "UNDETERMINED_REVOCATION_STATUS", "without a list there is no connection"

        ahead = timedelta(days=300)
        await lists.refresh()
        assert await check(0, good) == "valid", (
            "an authority's VM with a wrong clock signed later lists, and Java takes no list of the future"
        )
        assert await check(0, bad) == "REVOKED"

        for role, blob in (
            (CertificateRole.NODE_CA, NODE_CA_KEY),
            (CertificateRole.LEGAL_IDENTITY, IDENTITY_KEY),
        ):
            signer = certificates.read_key(keys, blob)
            above = network.certify(role, signer, NAME, now=now, crl_url=url)
            for subject, its_list in ((below(NAME), url), (below(NAME, ST="Kent"), url)):
                builder = certificates.certificate(
                    CertificateRole.TLS, subject, key.public_key(), above[0], now=now, crl_url=its_list
                )
                forged = builder.sign(signer, SHA256()), *above
                assert await check(0, forged) == "UNDETERMINED_REVOCATION_STATUS", (
                    f"a member's {role.name} certifies {subject} for TLS: no list of the authority is its issuer's"
                )

    asyncio.run(story())
