"""Runs the Pulumi program without Azure: in this process, or on the real engine against an offline Azure."""
