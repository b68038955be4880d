"""`python pretend_stage.py HOW FOLDER`: a rank without torch, for what its launcher does.

HOW is "polite" (saves and ends with 75 at SIGTERM), "stubborn" (does not, and has a child), either
of them with "exit N" behind it (the last rank ends so), or "tell" (writes its environment to FOLDER
and prints secrets).
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

how, folder = sys.argv[1].split(), Path(sys.argv[2])
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
asked: list[int] = []
signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
print(f"rank {rank} of {world} begins", flush=True)
if "tell" in how:
    found = {name.decode(): value.hex() for name, value in os.environb.items()}
    (folder / f"environment-{rank}.json").write_text(json.dumps(found))
    print(f"textmill: the token is {os.environ.get('HF_TOKEN')}", flush=True)
    print(dict(os.environ), flush=True)
if "stubborn" in how:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
written = folder / f"writing-{rank}"
written.write_text(str(os.getpid()))
written.rename(folder / f"ready-{rank}")
if "exit" in how and rank == world - 1:
    print("textmill: NumericError: 5 updates in a row", file=sys.stderr, flush=True)
    os._exit(int(how[-1]))
while "stubborn" in how or not asked:
    if "tell" in how and (folder / "go-on").exists():
        os._exit(0)
    time.sleep(0.02)
(folder / f"saved-{rank}").touch()
os._exit(75)
