"""Trains a small network on images in tar shards, on any number of ranks, from where it stood.

    python examples/train_torch.py --data shapes --checkpoint model.pt
    torchrun --standalone --nproc-per-node 2 examples/train_torch.py --data shapes --checkpoint model.pt

Images are made first where there are none. Stop it whenever you like, by SIGKILL too, and start it
again with another number of processes: it goes on behind the last checkpoint, and every image is
seen exactly once an epoch. `--seen` says which.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import distributed, nn

from ultar_dataloader import Dataset
from ultar_dataloader.torch import tensors

COLOURS = [(220, 60, 60), (60, 200, 60), (70, 90, 230), (220, 200, 50)]


def make_shards(folder: Path, shards: int = 4, images: int = 128) -> None:
    """Shards of images with a shape in one of four colours, which is what is to be learnt."""
    draw_from = random.Random(0)
    folder.mkdir(parents=True)
    for shard in range(shards):
        with tarfile.open(folder / f"shapes-{shard:06}.tar", "w") as tar:
            for i in range(shard * images, (shard + 1) * images):
                label = draw_from.randrange(len(COLOURS))
                noise = np.frombuffer(draw_from.randbytes(32 * 32 * 3), "u1").reshape(32, 32, 3) // 2
                image = Image.fromarray(noise)
                left, top = draw_from.randrange(16), draw_from.randrange(16)
                shape = draw_from.choice([ImageDraw.Draw(image).ellipse, ImageDraw.Draw(image).rectangle])
                shape((left, top, left + 14, top + 14), fill=COLOURS[label])
                png = io.BytesIO()
                image.save(png, "PNG")
                about = json.dumps({"stem": f"{i:05}", "label": label}).encode()
                for key, payload in (("png", png.getvalue()), ("json", about)):
                    member = tarfile.TarInfo(f"{i:05}.{key}")
                    member.size = len(payload)
                    tar.addfile(member, io.BytesIO(payload))


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """What a step wants of one image. Runs on threads, ahead of the step."""
    pixels = np.asarray(row[".png"], "f4").transpose(2, 0, 1) / 255
    return {"pixels": pixels, "label": row[".json"]["label"], "stem": row[".json"]["stem"]}


def together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What it wants of a batch."""
    batch: dict[str, Any] = {key: [row[key] for row in rows] for key in rows[0]}
    return {**batch, "pixels": np.stack(batch["pixels"]), "label": np.array(batch["label"])}


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, len(COLOURS)),
    )


def save(path: Path, state: dict[str, Any]) -> None:
    """The old checkpoint, or the new one, but never half of one."""
    half = path.with_suffix(".half")
    torch.save(state, half)
    os.replace(half, path)


def train(arguments: argparse.Namespace, rank: int, world_size: int) -> None:
    torch.manual_seed(0)
    model = make_model()
    trained = nn.parallel.DistributedDataParallel(model) if world_size > 1 else model
    optimizer = torch.optim.Adam(trained.parameters(), lr=3e-3)
    # Rank and world size are those of torch.distributed.
    stream = Dataset(arguments.data).shuffle(seed=1).shard().decode().map(prepare)
    stream = stream.batch(arguments.batch, collate=together).prefetch()
    first_epoch = step = 0
    if arguments.checkpoint.exists():
        state = torch.load(arguments.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        stream.load_state_dict(state["stream"])
        first_epoch, step = state["epoch"], state["step"]
    log = open(f"{arguments.seen}.{rank}", "a", buffering=1) if arguments.seen else None  # noqa: SIM115
    for epoch in range(first_epoch, arguments.epochs):
        for batch in stream:
            step += 1
            if log is not None:
                line = {"epoch": epoch, "step": step, "rank": rank, "ranks": world_size, "process": os.getpid()}
                print(json.dumps({**line, "stems": batch["stem"]}), file=log)
            batch = tensors(batch)
            loss = nn.functional.cross_entropy(trained(batch["pixels"]), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if rank == 0:
                print(f"epoch {epoch} step {step}: loss {loss.item():.3f}", flush=True)
            if rank == 0 and step % arguments.every == 0:
                # Gradients were exchanged, so the other ranks have come as far: the state is theirs, too.
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
                save(arguments.checkpoint, {**state, "step": step, "stream": stream.state_dict()})
            time.sleep(arguments.pause)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of shards; made, if it is not there")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="images a step and rank")
    parser.add_argument("--every", type=int, default=4, help="steps from one checkpoint to the next")
    parser.add_argument("--seen", help="a line of JSON a step goes to SEEN.RANK: the stems of its images")
    parser.add_argument("--pause", type=float, default=0, help="seconds after each step, to have time to stop it")
    arguments = parser.parse_args()
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1:
        distributed.init_process_group("gloo")
    if rank == 0 and not arguments.data.exists():
        make_shards(arguments.data)
        Dataset(arguments.data)  # Indexes them.
    if world_size > 1:
        distributed.barrier()
    train(arguments, rank, world_size)
    if world_size > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
