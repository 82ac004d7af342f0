"""The side files of other loaders, written from our indexes and read into them.

One module each: `dali` (`.idx`), `energon` (`.tar.idx`), `parquet` (metadata beside a shard) and
`wids` (the JSON that lists shards). Each has `write` and `index`; `ultar-dataloader convert`
calls them. See docs/side-files.md.
"""

from . import dali, energon, parquet, wids

__all__ = ["dali", "energon", "parquet", "wids"]
