"""A disk that is full."""

from harness.disk import Disk, lacking
from harness.process import now_ms
from .stage import Stage, scenario


@scenario(
    "disk-full",
    "the broker's disk (a small tmpfs) fills up and is emptied: the worker must say so until messages are stored again",
    lacking=lacking,
)
async def disk_full(stage: Stage) -> None:
    disk = stage.stack.enter_context(Disk(stage.folder / "disk", 64))
    broker = await stage.broker(store=disk.at / "store")
    worker = stage.add("w0", broker.url)
    await stage.start(worker)
    load = await stage.load(rate=50.0)
    await stage.runs(8)
    disk.fill()
    await stage.demand("w0 reports trouble with the log or the storage", 30, worker.reasons)
    await stage.runs(5)
    disk.empty()
    emptied = now_ms()

    async def stores() -> bool:
        return any((ack.acknowledged or 0) > emptied + 1000 for ack in load.sent[-3000:])
    await stage.runs(15)
    if await stores():
        stage.note("the broker stores again by itself")
        return
    reasons = await worker.reasons()
    if not reasons:
        stage.fault("15 s after there is room again the broker stores nothing, and w0 reports that it is ready")
    # What docs/operations.md demands then.
    await broker.stop()
    await broker.start()
    await stage.demand("results are stored after the broker's restart", 60, stores)
    await stage.runs(5)
