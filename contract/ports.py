"""TCP ports and paths that are the same at every member, besides those of a ledger platform."""

HTTP_PORT, HTTPS_PORT = 80, 443
NFS_PORT = 2049
POSTGRESQL_PORT = 5432
"""Port of the nodes' database server."""
PGBOUNCER_PORT = 6432
"""Port of the server's connection pool, used between primary and standby."""
HEALTH_PORT, HEALTH_PATH = 8080, "/health"
"""Health endpoint of each VM, a node's or an authority's."""
NETWORK_INFO_PORT, NETWORK_INFO_PATH = 8443, "/networkinfo"
"""Port and path of each member's network information."""
