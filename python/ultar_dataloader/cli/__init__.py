"""The command `ultar-dataloader`: one module a verb, put together in `main`."""
