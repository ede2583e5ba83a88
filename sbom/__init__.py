"""The third-party software that is deployed, and its known vulnerabilities."""
