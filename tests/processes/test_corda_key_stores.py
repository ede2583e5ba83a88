"""Java and its keytool read the key stores that the agent writes."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ledger.corda import IDENTITY_KEY
from ledger.corda.certificates import (
    TLS_KEY_STORE,
    CertificateRole,
    certificate,
    issue,
    key_stores,
    make_keys,
    read_key,
    to_pem,
    x500_name,
)
from tests.certificates import NAME, PASSWORD, STORES, certified, make_network

HERE = Path(__file__).parent


@pytest.mark.skipif(not shutil.which("java"), reason="no Java here")
def test_java_reads_the_key_stores_and_validates_the_paths_as_for_a_node(tmp_path: Path) -> None:
    """One program for all, since a JVM takes a second to start."""
    now, keys = datetime.now(UTC), make_keys()
    network = make_network(now)
    chains = certified(network, keys, now)
    identity = issue(keys, IDENTITY_KEY, CertificateRole.LEGAL_IDENTITY, chains.node_ca, now=now)
    zone = chains.model_copy(update={"identity": identity})
    # A confidential identity in the bank's name, and one in another's: the holder of the identity key may sign both.
    for name, subject in (("own", NAME), ("foreign", "O=Bank B, L=Paris, C=FR")):
        key = ec.generate_private_key(ec.SECP256R1())
        builder = certificate(CertificateRole.TLS, x500_name(subject), key.public_key(), chains.identity[0], now=now)
        leaf = builder.sign(read_key(keys, IDENTITY_KEY), SHA256())
        (tmp_path / f"{name}.pem").write_text("".join(to_pem(each) for each in (leaf, *chains.identity)))
    for folder, of in (("authority", chains), ("zone", zone)):
        (tmp_path / folder).mkdir()
        for name, content in key_stores(keys, of, PASSWORD).items():
            (tmp_path / folder / name).write_bytes(content)
    for alias, key_name, _ in (each for each in STORES.values() if each[1]):
        (tmp_path / f"{alias}.key").write_bytes(
            read_key(keys, key_name or "").private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        )
    done = subprocess.run(
        ["java", str(HERE / "ReadKeyStores.java"), PASSWORD],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == [
        "authority/nodekeystore.jks identity-private-key 3 same valid",
        "authority/sslkeystore.jks cordaclienttls 4 same valid",
        "authority/rpcsslkeystore.jks cordarpcssl 1 same",
        "authority/truststore.jks cordarootca trusted",
        "authority/rpcssltruststore.jks cordarpcssl trusted",
        "zone/nodekeystore.jks identity-private-key 4 same valid",
        "zone/sslkeystore.jks cordaclienttls 4 same valid",
        "zone/rpcsslkeystore.jks cordarpcssl 1 same",
        "zone/truststore.jks cordarootca trusted",
        "zone/rpcssltruststore.jks cordarpcssl trusted",
        "own.pem valid",
        "foreign.pem refused",
        "wrong password refused",
        "",
    ], "type JKS, as Corda opens it; whole chains; name constraints bind an identity"


@pytest.mark.skipif(not shutil.which("keytool"), reason="no keytool here")
def test_keytool_lists_a_key_store(tmp_path: Path) -> None:
    keys = make_keys()
    chains = certified(make_network(), keys)
    (tmp_path / "store").write_bytes(key_stores(keys, chains, PASSWORD)[TLS_KEY_STORE])
    done = subprocess.run(
        ["keytool", "-list", "-v", "-keystore", "store", "-storepass", PASSWORD],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Certificate chain length: 4" in done.stdout, "an operator reads it with Java's own tool"
    assert "OU=node-1, O=Bank A/S, L=London, C=GB" in done.stdout, "the name reads as configured"
