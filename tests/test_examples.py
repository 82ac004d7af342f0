"""The examples do what they say: they run, they learn, and training goes on after SIGKILL with other ranks."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import ultar_dataloader as ultar

EXAMPLES = Path(__file__).parents[1] / "examples"
IMAGES = 512
PATIENCE = 240
"""Seconds, for machines that have other things to do."""
# One thread a rank, and no name of this machine to be looked up.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def test_numpy_needs_no_adapter(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "numpy_loop.py", "--data", tmp_path / "points"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "weights: 1.000 2.000 3.000 4.000 5.000 6.000 7.000 8.000\n" in done.stdout


@pytest.mark.parametrize("framework", ["jax", "tensorflow"])
def test_training_that_ends_in_an_epoch_goes_on_behind_it(framework: str, tmp_path: Path) -> None:
    # Not imported here: it would start threads, and other tests fork.
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    name = {"jax": "train_jax.py", "tensorflow": "train_tf.py"}[framework]
    command = [sys.executable, EXAMPLES / name, "--data", tmp_path / "data", "--checkpoint", tmp_path / "model"]
    command += ["--seen", tmp_path / "seen", "--epochs", "2", "--every", "5"]
    environment = {**ENVIRONMENT, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    losses: list[float] = []
    for more in (["--steps", "13"], []):
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        losses += map(float, re.findall(r"loss ([\d.]+)", done.stdout))
    assert len(losses) == 64 and sum(losses[-8:]) < 0.6 * sum(losses[:8])
    lines = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0] * 32 + [1] * 32
    for epoch in range(2):
        seen = [image for line in lines if line["epoch"] == epoch for image in line["images"]]
        assert seen == list(ultar.order(IMAGES, 1, epoch)), "each once, in the order that no interruption changes"


class Training:
    """A run of `train_torch.py` in a folder, for one epoch."""

    def __init__(self, folder: Path, name: str, ranks: int, pause: float = 0) -> None:
        self.checkpoint = folder / "model.pt"
        self.seen = [Path(f"{folder / name}.{rank}") for rank in range(ranks)]
        launch = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={ranks}"]
        self.process = subprocess.Popen(
            [
                sys.executable,
                *(launch if ranks > 1 else []),
                str(EXAMPLES / "train_torch.py"),
                f"--data={folder / 'shapes'}",
                f"--checkpoint={self.checkpoint}",
                f"--seen={folder / name}",
                f"--pause={pause}",
                "--epochs=1",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT,
        )

    def lines(self) -> list[list[dict[str, Any]]]:
        """What each rank says that it saw, without a last line that is half written."""
        texts = [path.read_text() if path.exists() else "" for path in self.seen]
        return [[json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")] for text in texts]

    def kill_after(self, steps: int) -> None:
        """SIGKILL to every rank, so many steps on."""
        deadline = time.monotonic() + PATIENCE
        while any(len(lines) < steps for lines in self.lines()):
            assert self.process.poll() is None and time.monotonic() < deadline, self.output()
            time.sleep(0.02)
        for lines in self.lines():
            os.kill(lines[0]["process"], signal.SIGKILL)
        self.output()
        assert self.process.returncode != 0

    def output(self) -> str:
        """All that it printed, once it has ended."""
        try:
            return self.process.communicate(timeout=PATIENCE)[0]
        finally:
            self.process.kill()

    def seen_until(self, step: int) -> list[str]:
        """Stems in order of steps, and in a step in order of the places that its ranks share out."""
        stems = []
        for ranks in zip(*self.lines(), strict=False):
            assert len({line["step"] for line in ranks}) == 1
            if ranks[0]["step"] <= step:
                stems += [stem for slot in zip(*(line["stems"] for line in ranks), strict=True) for stem in slot]
        return stems


def test_training_that_is_killed_goes_on_with_other_ranks(tmp_path: Path) -> None:
    import torch

    stems: list[str] = []
    for ranks in (2, 1):
        training = Training(tmp_path, f"by-{ranks}", ranks, pause=0.1)
        training.kill_after(steps=10)
        step = torch.load(training.checkpoint)["step"]
        last = min(lines[-1]["step"] for lines in training.lines())
        assert last - 4 <= step <= last
        # What came behind the checkpoint was in vain, and comes again.
        stems += training.seen_until(step)
        assert 64 <= len(stems) < IMAGES
    training = Training(tmp_path, "by-3", 3)
    output = training.output()
    assert training.process.returncode == 0, output
    losses = re.findall(r"loss ([\d.]+)", output)
    assert float(losses[-1]) < 0.8 * float(losses[0])
    stems += training.seen_until(10**9)
    order = [f"{row:05}" for row in ultar.order(IMAGES, 1, 0)]
    assert stems[:IMAGES] == order, "each once, in the order that no interruption changes"
    assert stems[IMAGES:] == order[: len(stems) - IMAGES] and len(stems) - IMAGES < 24
