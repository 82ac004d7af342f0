"""Trains a small network with JAX on arrays in tar shards, from where it stood.

    python examples/train_jax.py --data corners --checkpoint model.npz --steps 30
    python examples/train_jax.py --data corners --checkpoint model.npz

Arrays are made first where there are none. Batches are read straight into arrays, which JAX takes
on a CPU without a copy. With `--steps` it ends in the middle of an epoch, and the next run goes on
behind the last checkpoint: every array is seen exactly once an epoch. `--seen` says which.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ultar_dataloader import Dataset
from ultar_dataloader.jax import arrays

SIZE, CLASSES = 16, 4
# What is read of a row: a `.npy` file, and the number and the class as plain integers.
FIELDS: dict[str, Any] = {".npy": ("f4", (SIZE, SIZE)), ".about": ("<i4", (2,))}

Model = dict[str, jax.Array]


def make_shards(folder: Path, shards: int = 4, images: int = 128) -> None:
    """Shards of noisy pictures with a bright corner: which of the four is what is to be learnt."""
    draw_from = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for shard in range(shards):
        with tarfile.open(folder / f"corners-{shard:06}.tar", "w") as tar:
            for i in range(shard * images, (shard + 1) * images):
                label = int(draw_from.integers(CLASSES))
                pixels = draw_from.normal(size=(SIZE, SIZE)).astype("f4")
                top, left = 8 * (label // 2) + draw_from.integers(1, 4), 8 * (label % 2) + draw_from.integers(1, 4)
                pixels[top : top + 4, left : left + 4] += 1
                npy = io.BytesIO()
                np.save(npy, pixels)
                for key, payload in (("npy", npy.getvalue()), ("about", np.array([i, label], "<i4").tobytes())):
                    member = tarfile.TarInfo(f"{i:05}.{key}")
                    member.size = len(payload)
                    tar.addfile(member, io.BytesIO(payload))


def make_model() -> Model:
    first, second = jax.random.split(jax.random.key(0))
    return {
        "filters": jax.random.normal(first, (8, 1, 5, 5)) / 5,
        "weights": jax.random.normal(second, (8 * 4 * 4, CLASSES)) / 11,
        "bias": jnp.zeros(CLASSES),
    }


def loss_of(model: Model, pixels: jax.Array, labels: jax.Array) -> jax.Array:
    seen = jax.nn.relu(jax.lax.conv(pixels[:, None], model["filters"], (1, 1), "SAME"))
    pooled = seen.reshape(-1, 8, 4, SIZE // 4, 4, SIZE // 4).mean((3, 5))
    scores = pooled.reshape(len(pixels), -1) @ model["weights"] + model["bias"]
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], 1).mean()


@jax.jit
def step_of(model: Model, moments: Model, pixels: jax.Array, labels: jax.Array) -> tuple[Model, Model, jax.Array]:
    """Gradient descent with momentum."""
    loss, gradients = jax.value_and_grad(loss_of)(model, pixels, labels)
    moments = jax.tree.map(lambda moment, gradient: 0.9 * moment + gradient, moments, gradients)
    return jax.tree.map(lambda value, moment: value - 0.1 * moment, model, moments), moments, loss


def save(path: Path, trained: dict[str, Model], progress: dict[str, Any]) -> None:
    """The old checkpoint, or the new one, but never half of one."""
    half = path.with_suffix(".half")
    with half.open("wb") as file:
        values = {f"{kind} {name}": np.asarray(value) for kind in trained for name, value in trained[kind].items()}
        np.savez(file, progress=json.dumps(progress), **values)
    os.replace(half, path)


def load(path: Path) -> tuple[dict[str, Model], dict[str, Any]]:
    trained: dict[str, Model] = {"model": {}, "moments": {}}
    with np.load(path) as file:
        for key in file.files:
            kind, _, name = key.partition(" ")
            if name:
                trained[kind][name] = jnp.asarray(file[key])
        return trained, json.loads(str(file["progress"]))


def train(arguments: argparse.Namespace) -> None:
    model = make_model()
    moments = jax.tree.map(jnp.zeros_like, model)
    stream = Dataset(arguments.data).shuffle(seed=1).batch(arguments.batch, drop_last=True, collate=FIELDS).prefetch()
    epoch = step = 0
    if arguments.checkpoint.exists():
        trained, progress = load(arguments.checkpoint)
        model, moments = trained["model"], trained["moments"]
        epoch, step = progress["epoch"], progress["step"]
        stream.load_state_dict(progress["stream"])
    last = step + (arguments.steps or 2**53)
    for epoch in range(epoch, arguments.epochs):  # noqa: B020
        for batch in stream:
            step += 1
            batch = arrays(batch)  # On the device.
            model, moments, loss = step_of(model, moments, batch[".npy"], batch[".about"][:, 1])
            print(f"epoch {epoch} step {step}: loss {loss:.3f}", flush=True)
            if arguments.seen:
                with arguments.seen.open("a") as log:
                    print(json.dumps({"epoch": epoch, "images": batch[".about"][:, 0].tolist()}), file=log)
            if step % arguments.every == 0 or step == last:
                progress = {"epoch": epoch, "step": step, "stream": stream.state_dict()}
                save(arguments.checkpoint, {"model": model, "moments": moments}, progress)
            if step == last:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of shards; made, if it is not there")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, help="end after so many, wherever that is")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--every", type=int, default=8, help="steps from one checkpoint to the next")
    parser.add_argument("--seen", type=Path, help="a line of JSON a step goes there: the numbers of its arrays")
    arguments = parser.parse_args()
    if not arguments.data.exists():
        make_shards(arguments.data)
    train(arguments)


if __name__ == "__main__":
    main()
