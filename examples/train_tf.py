"""Trains a small network with TensorFlow on images in tar shards, from where it stood.

    python examples/train_tf.py --data discs --checkpoint model --steps 30
    python examples/train_tf.py --data discs --checkpoint model

Images are made first where there are none. They are decoded by the stream, on threads, and come as a
`tf.data.Dataset`. With `--steps` it ends in the middle of an epoch, and the next run goes on behind the
last checkpoint: every image is seen exactly once an epoch. `--seen` says which.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from ultar_dataloader import Dataset
from ultar_dataloader import tf as ultar_tf

COLOURS = [(220, 60, 60), (60, 200, 60), (70, 90, 230), (220, 200, 50)]


def make_shards(folder: Path, shards: int = 4, images: int = 128) -> None:
    """Shards of images with a disc in one of four colours, which is what is to be learnt."""
    draw_from = random.Random(0)
    folder.mkdir(parents=True)
    for shard in range(shards):
        with tarfile.open(folder / f"discs-{shard:06}.tar", "w") as tar:
            for i in range(shard * images, (shard + 1) * images):
                label = draw_from.randrange(len(COLOURS))
                noise = np.frombuffer(draw_from.randbytes(32 * 32 * 3), "u1").reshape(32, 32, 3) // 2
                image = Image.fromarray(noise)
                left, top = draw_from.randrange(16), draw_from.randrange(16)
                ImageDraw.Draw(image).ellipse((left, top, left + 14, top + 14), fill=COLOURS[label])
                png = io.BytesIO()
                image.save(png, "PNG")
                for key, payload in (
                    ("png", png.getvalue()),
                    ("json", json.dumps({"number": i, "label": label}).encode()),
                ):
                    member = tarfile.TarInfo(f"{i:05}.{key}")
                    member.size = len(payload)
                    tar.addfile(member, io.BytesIO(payload))


def together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch of decoded rows, as TensorFlow takes it."""
    about = [row[".json"] for row in rows]
    return {
        "pixels": np.stack([np.asarray(row[".png"], "f4") / 255 for row in rows]),
        "label": np.array([one["label"] for one in about]),
        "number": np.array([one["number"] for one in about]),
    }


class Model(tf.Module):
    """A layer of filters, of which the brightest answers count."""

    def __init__(self) -> None:
        super().__init__()
        draw = tf.random.Generator.from_seed(0).normal
        self.filters = tf.Variable(draw([5, 5, 3, 16]) / 8)
        self.weights = tf.Variable(draw([16, len(COLOURS)]) / 4)
        self.bias = tf.Variable(tf.zeros(len(COLOURS)))
        self.moments = [tf.Variable(tf.zeros_like(value)) for value in (self.filters, self.weights, self.bias)]

    @tf.function(reduce_retracing=True)
    def step(self, pixels: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Gradient descent with momentum; the loss before."""
        variables = [self.filters, self.weights, self.bias]
        with tf.GradientTape() as tape:
            seen = tf.reduce_max(tf.nn.relu(tf.nn.conv2d(pixels, self.filters, 2, "SAME")), [1, 2])
            scores = seen @ self.weights + self.bias
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores))
        for variable, moment, gradient in zip(variables, self.moments, tape.gradient(loss, variables), strict=True):
            moment.assign(0.9 * moment + gradient)
            variable.assign_sub(0.05 * moment)
        return loss


def train(arguments: argparse.Namespace) -> None:
    model = Model()
    stream = Dataset(arguments.data).shuffle(seed=1).decode().batch(arguments.batch, collate=together).prefetch()
    # The stream's state is a few integers: as text it is a variable like any other, saved in the same step.
    progress = tf.Variable(json.dumps({"epoch": 0, "step": 0}))
    checkpoint = tf.train.Checkpoint(model=model, progress=progress)
    manager = tf.train.CheckpointManager(checkpoint, arguments.checkpoint, max_to_keep=1)
    checkpoint.restore(manager.latest_checkpoint)
    state = json.loads(progress.numpy())
    epoch, step = state["epoch"], state["step"]
    if "stream" in state:
        stream.load_state_dict(state["stream"])
    last = step + (arguments.steps or 2**53)
    batches = ultar_tf.dataset(stream)
    for epoch in range(epoch, arguments.epochs):  # noqa: B020
        for batch in batches:  # Each time the next epoch of the stream.
            step += 1
            loss = model.step(batch["pixels"], batch["label"])
            print(f"epoch {epoch} step {step}: loss {loss:.3f}", flush=True)
            if arguments.seen:
                with arguments.seen.open("a") as log:
                    print(json.dumps({"epoch": epoch, "images": batch["number"].numpy().tolist()}), file=log)
            if step % arguments.every == 0 or step == last:
                progress.assign(json.dumps({"epoch": epoch, "step": step, "stream": stream.state_dict()}))
                manager.save()
            if step == last:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of shards; made, if it is not there")
    parser.add_argument("--checkpoint", type=Path, required=True, help="a folder")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, help="end after so many, wherever that is")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--every", type=int, default=8, help="steps from one checkpoint to the next")
    parser.add_argument("--seen", type=Path, help="a line of JSON a step goes there: the numbers of its images")
    arguments = parser.parse_args()
    if not arguments.data.exists():
        make_shards(arguments.data)
    train(arguments)


if __name__ == "__main__":
    main()
