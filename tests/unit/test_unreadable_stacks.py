"""An unreadable peer's stack: the message for answers that Pulumi and Azure really give."""

import asyncio
from typing import Any

import pulumi
import pytest

from lab.azure.program import PROJECT
from stack import peers
from stack.previous import PreviousUpdate
from stack.settings import parse_settings
from tests.configuration import configuration

STACK = "organization/decentralized-trust/bank-b"
# Prefixes of Pulumi's SDK and engine, as seen with 3.260.
OF_SDK = "invoke of pulumi:pulumi:readStackOutputs failed: {}"
WRAPPED = OF_SDK.format("invocation of pulumi:pulumi:readStackOutputs returned an error: {}")
RULE = "-" * 80


def answered(head: str, status: str, code: str, body: str) -> str:
    """An error of Azure's Go libraries, as Pulumi prints it."""
    return f"{head}\n{RULE}\nRESPONSE {status}\nERROR CODE: {code}\n{RULE}\n{body}\n{RULE}\n"


def forbidden(message: str, inner: str) -> str:
    """A vault's refusal to decrypt."""
    error = (
        f'"code": "Forbidden",\n    "message": "{message}",\n    "innererror": {{\n      "code": "{inner}"\n    }}'
    )
    return answered(
        'constructing secrets manager of type "cloud": secrets (code=PermissionDenied): '
        "POST https://bank-b-pulumi.vault.azure.net/keys/pulumi/decrypt",
        "403: 403 Forbidden",
        "Forbidden",
        f'{{\n  "error": {{\n    {error}\n  }}\n}}',
    )


# pulumi/pulumi#21436, pulumi/actions#1045: a vault with roles, and one with access policies.
BY_ROLE = forbidden(
    "Caller is not authorized to perform action on resource.\\r\\nIf role assignments, deny assignments or role "
    "definitions were changed recently, please observe propagation time.\\r\\nCaller: appid=1;oid=2;iss=https://"
    "sts.windows.net/3/\\r\\nAction: 'Microsoft.KeyVault/vaults/keys/decrypt/action'\\r\\nAssignment: (not found)",
    "ForbiddenByRbac",
)
BY_POLICY = forbidden(
    "The user, group or application 'appid=1;oid=2' does not have keys decrypt permission on key vault "
    "'bank-b-pulumi;location=westus'. For help resolving this issue, please see https://go.microsoft.com/fwlink/",
    "AccessDenied",
)
# Seen with 3.260, without a network.
NO_HOST = (
    'constructing secrets manager of type "cloud": secrets (code=Unknown): Post "https://bank-b-pulumi.vault.azure'
    '.net/keys/pulumi/decrypt?api-version=2025-07-01": dial tcp: lookup bank-b-pulumi.vault.azure.net: no such host'
)
BACKEND = answered(
    'blob (key ".pulumi/stacks/decentralized-trust/bank-b.json") (code=PermissionDenied): GET https://'
    "bankbstate.blob.core.windows.net/state/.pulumi/stacks/decentralized-trust/bank-b.json",
    "403: 403 This request is not authorized to perform this operation using this permission.",
    "AuthorizationPermissionMismatch",
    '<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthorizationPermissionMismatch</Code></Error>',
)


def refused(text: str, monkeypatch: pytest.MonkeyPatch, wrapped: str = WRAPPED) -> str:
    async def failing(*_: Any) -> None:
        raise Exception(wrapped.format(text))

    monkeypatch.setattr(peers, "invoke_async", failing)
    values = configuration(peers=[{"name": "bank-b", "legalName": "O=Bank B, L=Dublin, C=IE", "stack": STACK}])
    settings, tenant = parse_settings(PROJECT, values), "7b1d6c2e-5a0f-4f0e-9a55-2f4d1f5f7b61"
    with pytest.raises(pulumi.RunError) as error:
        asyncio.run(peers.read_peers(settings, [], tenant, PreviousUpdate()))
    heading, *lines = str(error.value).splitlines()
    assert heading == "the peers of bank-a can't be linked:"
    assert len(lines) == 1, f"one line for each mistake, whatever Azure answers: {lines}"
    return lines[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BY_ROLE, "RESPONSE 403: 403 Forbidden"),
        (BY_ROLE, "Caller is not authorized to perform action on resource"),
        (BY_POLICY, "does not have keys decrypt permission on key vault 'bank-b-pulumi"),
        (NO_HOST, "no such host"),
        (
            'constructing secrets manager of type "passphrase": unable to find either `PULUMI_CONFIG_PASSPHRASE`',
            "type",
        ),
    ],
)
def test_a_state_encrypted_with_another_key_is_named_as_such(
    text: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(text, monkeypatch)
    assert f"peer bank-b: stack {STACK}: Pulumi wants the right to decrypt its secrets" in said
    assert why in said, "the answer is quoted, since the vault's network may be the reason"
    assert said.endswith("wanted its card as a file, since that right opens them all"), (
        "the right to decrypt would include the peer's private keys"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f'unknown stack "{STACK}"', f'(unknown stack "{STACK}")'),
        (BACKEND, "(code=PermissionDenied): GET https://bankbstate.blob.core.windows.net/state/.pulumi/stacks/"),
        (BACKEND, "not authorized to perform this operation using this permission. ERROR CODE: Authorization"),
        ("x" * 100_000, "..."),
    ],
)
def test_any_other_reason_is_quoted_from_its_beginning(text: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(text, monkeypatch)
    assert f"peer bank-b: stack {STACK}: can't be read (" in said
    assert why in said, "the end of Azure's answers is a fragment of JSON or XML"
    assert "decrypt" not in said
    assert len(said) < 1000, "the message must be short"


def test_no_reason_begins_with_names_of_pulumis_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrapped in (WRAPPED, OF_SDK):
        said = refused(f'unknown stack "{STACK}"', monkeypatch, wrapped)
        assert f'can\'t be read (unknown stack "{STACK}")' in said, "without an engine there is one prefix less"
