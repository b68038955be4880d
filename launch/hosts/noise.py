"""Lines of the libraries that say nothing about the run: in the logs, but not on the console."""

import re

NOISE = re.compile(
    r"\[\d{4}-\d\d-\d\d [\d:,]+\] \[(?:INFO|WARNING|ERROR)\]|"  # deepspeed's logger
    r"\[?[IWE]\d{4} [\d:.]+|\[W\d{3,} |\[rank\d+\]:\[W|"  # torch's C++ and Python loggers
    r"\[Gloo\]|Setting ds_accelerator|Warning: The cache directory for DeepSpeed|"
    r".*(?:Future|Deprecation|User|Runtime)Warning: |\s+warnings\.warn\(|\s*$"
)


def is_noise(line: str) -> bool:
    return NOISE.match(line) is not None
