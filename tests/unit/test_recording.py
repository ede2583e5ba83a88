"""Rows that the exporter would post."""

import os

from lab.recording import MetricRows


def test_an_exporter_for_rows_leaves_this_process_as_it_was() -> None:
    before = dict(os.environ)
    MetricRows(lambda _: None).shutdown()
    assert dict(os.environ) == before, "otherwise later tests would measure other metrics than a VM's"
