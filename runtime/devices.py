"""`python -m runtime.devices`: what torch can use on this machine, as one line of JSON."""

import json

import torch


def main() -> None:
    count = torch.cuda.device_count()
    nccl = torch.cuda.nccl.version() if count else ()  # type: ignore[no-untyped-call]
    facts = {
        "count": count,
        "cuda": torch.version.cuda,  # that torch was built for; null: none
        "nccl": ".".join(map(str, nccl)) if isinstance(nccl, tuple) else str(nccl),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
