"""A JVM under the filter of system calls that the agent's systemd unit sets."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from delivery.cloud_config import units
from lab import ROOT
from tests.processes.seccomp import restrictable

BUSY = """
import java.net.*; import java.nio.channels.*; import java.nio.file.*; import java.util.concurrent.*;
public class Busy {
    static long work(long n) { long x = 1; for (long i = 0; i < n; i++) x = x * 31 + i; return x; }
    public static void main(String[] arguments) throws Exception {
        long x = 0;
        for (int i = 0; i < 20_000; i++) x += work(1000);
        ExecutorService pool = Executors.newFixedThreadPool(8);
        ServerSocket server = new ServerSocket(0, 5, InetAddress.getLoopbackAddress());
        Future<Integer> read = pool.submit(() -> server.accept().getInputStream().read());
        try (Socket s = new Socket(server.getInetAddress(), server.getLocalPort())) { s.getOutputStream().write(7); }
        Path file = Files.createTempFile("busy", ".x");
        try (FileChannel c = FileChannel.open(file, StandardOpenOption.WRITE, StandardOpenOption.READ)) {
            c.lock(); c.map(FileChannel.MapMode.READ_WRITE, 0, 4096).put(0, (byte) 1); c.force(true);
        }
        Files.delete(Files.move(file, file.resolveSibling("busy.y"), StandardCopyOption.ATOMIC_MOVE));
        int child = new ProcessBuilder("true").start().waitFor();
        System.gc();
        System.out.println("read " + read.get() + ", child " + child + ", computed " + (x != 0));
        pool.shutdown();
    }
}
"""


@pytest.mark.skipif(
    not (restrictable() and shutil.which("javac")), reason="no javac, systemd-analyze or kernel header here"
)
def test_a_jvm_compiles_and_runs_under_the_units_filter(tmp_path: Path) -> None:
    """Started by setpriv, as by the agent. A JVM makes memory executable, which the unit must allow."""
    unit = tmp_path / "ledger-agent.service"
    unit.write_text(units()[unit.name])
    assert "MemoryDenyWriteExecute" not in unit.read_text(), "just-in-time compilers execute memory that they write"
    (tmp_path / "Busy.java").write_text(BUSY)
    subprocess.run(["javac", "Busy.java"], cwd=tmp_path, check=True)
    node = ["setpriv", "--pdeathsig", "KILL", "--", "java", "-XX:+UseG1GC", "-cp", str(tmp_path), "Busy"]
    for command, status in ((node, 0), (["chroot", "/", "true"], 125)):
        run = subprocess.run(
            [sys.executable, "-m", "tests.processes.seccomp", str(unit), *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == status, f"{command}: {run.stderr}"
        if not status:
            assert run.stdout == "read 7, child 0, computed true\n"
