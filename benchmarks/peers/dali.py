"""NVIDIA DALI: its reader of tars, on the CPU. Only where it is installed: `make bench` leaves its GB out."""

from . import Job, Rows, contestant

BATCH_ROWS = {"big": 32, "tiny": 1024, "record": 1024}


@contestant("dali", lines="ACFI", pip=["nvidia-dali-cuda120"], imports=["nvidia.dali"], on_request=True)
def read(job: Job) -> Rows:
    from nvidia.dali import fn, pipeline_def

    keys = list(job.data.keys)
    paths = [str(path) for path in job.data.tars]

    @pipeline_def(batch_size=BATCH_ROWS[job.data.name], num_threads=2, device_id=None)
    def tars():
        return tuple(fn.readers.webdataset(paths=paths, ext=keys, pad_last_batch=False))

    pipeline = tars()
    pipeline.build()
    left = job.data.rows
    while left:
        columns = pipeline.run()
        for row in range(min(left, len(columns[0]))):
            yield [column.at(row).tobytes() for column in columns]
        left -= min(left, len(columns[0]))
