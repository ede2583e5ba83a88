"""The program without Azure."""

import os

# Read when gRPC is imported: its threads take no part in the fork that starts the engine.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
