"""webdataset: streams tars in Python; by itself, and in two worker processes of torch's DataLoader."""

from . import Job, Rows, contestant


@contestant("webdataset", lines="ACFI", pip=["webdataset"], imports=["webdataset"])
def stream(job: Job) -> Rows:
    import webdataset

    samples = webdataset.WebDataset([str(path) for path in job.data.tars], shardshuffle=False)
    keys = job.data.keys
    return ([sample[key] for key in keys] for sample in samples)


@contestant(
    "webdataset, 2 torch workers",
    lines="ACFI",
    pip=["webdataset", "torch==2.13.0"],
    imports=["webdataset", "torch.utils.data"],
)
def with_workers(job: Job) -> Rows:
    import webdataset
    from torch.utils.data import DataLoader

    samples = webdataset.WebDataset([str(path) for path in job.data.tars], shardshuffle=False)
    keys = job.data.keys
    # A list of rows at a time, as one message a row would measure the pipe alone.
    batches = DataLoader(samples.to_tuple(*keys), batch_size=32, num_workers=2, collate_fn=list)
    return (row for batch in batches for row in batch)


@contestant("webdataset, buffer of 1000", lines="LM", pip=["webdataset"], imports=["webdataset"])
def shuffled(job: Job) -> Rows:
    """Its shuffle: of shards, and within a buffer."""
    import webdataset

    samples = webdataset.WebDataset([str(path) for path in job.data.tars], shardshuffle=100).shuffle(1000)
    keys = job.data.keys
    return ([sample[key] for key in keys] for sample in samples)
