"""Benchmarks: time and memory of a plan, of an agent, and of real Corda nodes."""
