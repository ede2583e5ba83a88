"""A sample row of each Log Analytics table, to measure a row's size and to test queries.

`AppMetrics` is what the exporter sends, in the columns where Application Insights puts it. The others follow the
examples of learn.microsoft.com: azure/key-vault/general/logging, azure/storage/blobs/monitor-blob-storage-reference,
azure/postgresql/flexible-server/how-to-configure-and-access-logs,
azure/vpn-gateway/troubleshoot-vpn-with-azure-diagnostics, and the tables' own pages below
azure/azure-monitor/reference/tables.
"""

import json
from typing import Any

WORKSPACE, SUBSCRIPTION = "5d1c3e0a-7f4b-4c5e-9a55-2f8f3f3f0c11", "0f6c8a54-2a56-4d2e-8a0b-0c1fd2f3a9b7"
PRINCIPAL, CORRELATION = "c0a6e1f9-54a2-4f0e-b1a0-6a1f7c9d2e33", "9b3a5c1e-8a60-4a74-9b0c-52a1f6f7d0aa"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/bank-a-3f9a2c1b"
IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities/bank-a-node-identity"
TIME = "2026-11-29T12:00:41.7073280Z"

ROWS: dict[str, dict[str, Any]] = {
    "AppMetrics": {
        "TimeGenerated": TIME,
        "Name": "ledger.members.reachable",
        "ItemCount": 1,
        "Sum": 1.0,
        "Min": 1.0,
        "Max": 1.0,
        "Properties": {"identity": "node-13", "member": "a-bank-of-some-name"},
        "AppRoleName": "decentralized-trust",
        "AppRoleInstance": "nodeabc00000d",
        "ClientType": "PC",
        "ClientModel": "Other",
        "ClientIP": "0.0.0.0",  # noqa: S104 Application Insights masks it so
        "IKey": WORKSPACE,
        "SDKVersion": "ulm_py3.12.3:otel1.45.1:ext1.0.0b58",
        "ResourceGUID": WORKSPACE,
        "SourceSystem": "Azure",
        "TenantId": WORKSPACE,
    },
    "AZKVAuditLogs": {
        "TimeGenerated": TIME,
        "OperationName": "SecretGet",
        "OperationVersion": "7.6",
        "ResultType": "Success",
        "ResultSignature": "OK",
        "ResultDescription": "",
        "DurationMs": 13,
        "CallerIpAddress": "10.1.0.21",
        "CorrelationId": CORRELATION,
        "HttpStatusCode": 200,
        "Identity": {
            "claim": {
                "oid": PRINCIPAL,
                "appid": PRINCIPAL,
                "xms_mirid": f"{GROUP}/providers/{IDENTITY}",
                "xms_az_nwperimid": [],
            }
        },
        "Id": "https://keys-bank-vault3f9a2c1b.vault.azure.net/secrets/peer-bank-b/0c7d5b5e0f1e4b0f8d1c1f1ab2a3c4d5",
        "RequestUri": "https://keys-bank-vault3f9a2c1b.vault.azure.net/secrets/peer-bank-b/?api-version=7.6",
        "ClientInfo": "azsdk-python-keyvault-secrets/4.10.0 Python/3.12.3 (Linux-6.8.0-1018-azure-x86_64)",
        "IsRbacAuthorized": True,
        "AppliedAssignmentId": CORRELATION,
        "AddressAuthorizationType": "PrivateLink",
        "IsAddressAuthorized": True,
        "SubnetId": "(unknown)",
        "Tlsversion": "TLS1_3",
        "SourceSystem": "Azure",
        "TenantId": WORKSPACE,
    },
    "PGSQLServerLogs": {
        "TimeGenerated": TIME,
        "LogicalServerName": "database-server3f9a2c1b",
        "ErrorLevel": "LOG",
        "SqlErrorCode": "00000",
        "ProcessId": 231974,
        "BackendType": "client backend",
        "Message": "2026-11-29 12:00:41 UTC-692ae2b9.38a26-LOG:  connection authorized: user=node-3_epoch_12 "
        "database=node-3 SSL enabled (protocol=TLSv1.3, cipher=TLS_AES_256_GCM_SHA384, bits=256)",
        "OperationName": "LogEvent",
        "Location": "swedencentral",
        "SourceSystem": "Azure",
        "TenantId": WORKSPACE,
    },
    "AzureDiagnostics": {
        "TimeGenerated": TIME,
        "Category": "IKEDiagnosticLog",
        "OperationName": "IKELogEvent",
        "ResourceId": f"{GROUP}/providers/Microsoft.Network/virtualNetworkGateways/network-vpn".upper(),
        "ResourceGroup": "BANK-A-3F9A2C1B",
        "ResourceProvider": "MICROSOFT.NETWORK",
        "ResourceType": "VIRTUALNETWORKGATEWAYS",
        "Resource": "NETWORK-VPN-GATEWAY3F9A2C1B",
        "SubscriptionId": SUBSCRIPTION,
        "Level": "Informational",
        "Message": "SESSION_ID :{4a8e1b5c-0f41-4b27-bb7e-a9a3d1a8a6c2} Remote 203.0.113.7:500: Local "
        "198.51.100.5:500: [RECEIVED][SA_AUTH] Received IKE payload AUTH",
        "instance_s": "GatewayTenantWorker_IN_0",
        "remoteIP_s": "203.0.113.7",
        "SourceSystem": "Azure",
        "TenantId": WORKSPACE,
    },
    "Perf": {
        "TimeGenerated": TIME,
        "Computer": "nodeabc00000d",
        "ObjectName": "Logical Disk",
        "CounterName": "% Used Space",
        "InstanceName": "/var/lib/ledger",
        "CounterPath": "\\\\nodeabc00000d\\Logical Disk(/var/lib/ledger)\\% Used Space",
        "CounterValue": 41.7236328125,
        "SourceSystem": "Linux",
        "TenantId": WORKSPACE,
    },
    "Syslog": {
        "TimeGenerated": TIME,
        "EventTime": TIME,
        "Computer": "nodeabc00000d",
        "HostName": "nodeabc00000d",
        "HostIP": "10.1.0.21",
        "Facility": "daemon",
        "SeverityLevel": "warning",
        "ProcessName": "ledger-agent",
        "ProcessID": 1184,
        "CollectorHostName": "nodeabc00000d",
        "SyslogMessage": "network information: bank-b: no answer in 10 s; goes on with what it was",
        "SourceSystem": "Linux",
        "TenantId": WORKSPACE,
    },
    "StorageBlobLogs": {
        "TimeGenerated": TIME,
        "AccountName": "storageblobs3f9a2c1b",
        "Location": "swedencentral",
        "Protocol": "HTTPS",
        "OperationName": "DeleteBlob",
        "OperationVersion": "2026-02-06",
        "SchemaVersion": "1.0",
        "AuthenticationType": "OAuth",
        "AuthenticationHash": "E1B6B9EC3C0D9C3F7F2C30A8E5A6D1C7DBD2B2B9A0B7E6F5D4C3B2A190807060",
        "AuthorizationDetails": [
            {
                "action": "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete",
                "roleAssignmentId": CORRELATION,
                "roleDefinitionId": PRINCIPAL,
                "principals": [{"id": PRINCIPAL, "type": "ServicePrincipal"}],
                "denyAssignmentId": "",
            }
        ],
        "RequesterObjectId": PRINCIPAL,
        "RequesterTenantId": SUBSCRIPTION,
        "RequesterAppId": PRINCIPAL,
        "RequesterAudience": "https://storage.azure.com",
        "RequesterTokenIssuer": f"https://sts.windows.net/{SUBSCRIPTION}/",
        "Category": "StorageDelete",
        "StatusCode": "202",
        "StatusText": "Success",
        "DurationMs": 12,
        "ServerLatencyMs": 11,
        "CallerIpAddress": "10.1.0.21:41022",
        "CorrelationId": CORRELATION,
        "ClientRequestId": CORRELATION,
        "Uri": "https://storageblobs3f9a2c1b.blob.core.windows.net/network/peers/bank-b",
        "ObjectKey": "/storageblobs3f9a2c1b/network/peers/bank-b",
        "UserAgentHeader": "azsdk-python-storage-blob/12.27.0 Python/3.12.3 (Linux-6.8.0-1018-azure-x86_64)",
        "RequestHeaderSize": 412,
        "ResponseHeaderSize": 240,
        "MetricResponseType": "Success",
        "TlsVersion": "TLS 1.3",
        "ServiceType": "blob",
        "SourceSystem": "Azure",
        "TenantId": WORKSPACE,
    },
}


def billed_bytes(row: dict[str, Any]) -> int:
    """The billed size of a row in bytes: its columns as text, without the standard columns, which are free."""
    return sum(
        len((value if isinstance(value, str) else json.dumps(value)).encode())
        for name, value in row.items()
        if not name.startswith("_") and name != "Type"
    )
