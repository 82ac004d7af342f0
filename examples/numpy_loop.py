"""Fits a line through points in tar shards with NumPy alone: no adapter is needed.

    python examples/numpy_loop.py --data points

Points are made first where there are none.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from pathlib import Path

import numpy as np

from ultar_dataloader import Dataset

SIZE = 8
WEIGHTS = np.arange(1, SIZE + 1)


def make_shards(folder: Path, shards: int = 2, points: int = 400) -> None:
    """Shards of points: a `.npy` each, with what is to be found from it in a `.json`."""
    draw_from = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for shard in range(shards):
        with tarfile.open(folder / f"points-{shard:06}.tar", "w") as tar:
            for i in range(points):
                x = draw_from.normal(size=SIZE).astype("f4")
                npy = io.BytesIO()
                np.save(npy, x)
                about = json.dumps({"y": float(x @ WEIGHTS)}).encode()
                for key, payload in (("npy", npy.getvalue()), ("json", about)):
                    member = tarfile.TarInfo(f"{shard}-{i:05}.{key}")
                    member.size = len(payload)
                    tar.addfile(member, io.BytesIO(payload))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of shards; made, if it is not there")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    if not arguments.data.exists():
        make_shards(arguments.data)
    stream = Dataset(arguments.data).shuffle(seed=0).decode().batch(16).prefetch()
    weights = np.zeros(SIZE)
    for epoch in range(arguments.epochs):
        errors = []
        for batch in stream:  # Each time the next epoch, in another order.
            x = np.stack(batch[".npy"])
            y = np.array([about["y"] for about in batch[".json"]])
            error = x @ weights - y
            weights -= 0.1 * (x.T @ error) / len(x)
            errors.append(float(np.mean(error**2)))
        print(f"epoch {epoch}: mean square error {np.mean(errors):.6f}")
    print("weights:", " ".join(f"{weight:.3f}" for weight in weights))


if __name__ == "__main__":
    main()
