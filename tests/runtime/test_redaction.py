"""What is hidden, and what must not be."""

import json

import pytest

from runtime.redaction import is_secret, redacted

PASSWORD = "correct horse/battery"


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "MYTOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "PASSWD", "db_pwd"),
        *("WANDB_API_KEY", "Apikey", "GOOGLE_CREDENTIALS", "SSH_PRIVATE_KEY", "AUTH_HEADER"),
        *("SESSION_COOKIE", "JWT", "KEYS"),
    ],
)
def test_secret_names(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "PWD", "OLDPWD", "TOKENIZERS_PARALLELISM", "KEYBOARD", "SSH_AUTH_SOCK", "RANK"),
        *("XAUTHORITY", "GOOGLE_CREDENTIALS_FILE", "SECRETS_DIR", "COMPASS"),
        *("RAY_AUTH_MODE", "KEY_TYPE", "AUTH_METHOD"),
    ],
)
def test_names_that_are_none(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    "spelt",
    [
        PASSWORD,
        f"--password {PASSWORD} --x",
        json.dumps({"a": PASSWORD}),
        repr({"a": PASSWORD}),
        f"DB_PASSWORD={PASSWORD}",
        "correct%20horse/battery",
        f"textmill: DataError: cannot open s3://{PASSWORD}/x",
    ],
)
def test_a_secret_value_is_hidden_however_it_is_spelt(spelt: str) -> None:
    shown = redacted(spelt, {"DB_PASSWORD": PASSWORD, "HOME": "/root"})
    assert "horse" not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "value", ["qu\"o\\te'd x", "line one\nline two", "中文的秘密", "tab\there"]
)
def test_escaped_forms_are_hidden(value: str) -> None:
    for text in (value, json.dumps(value), repr(value), json.dumps(value, ensure_ascii=False)):
        shown = redacted(f"<{text}>", {"A_SECRET": value}).replace("\\\\", "")
        assert not any(part in shown for part in ("quo", "line", "two", "秘密", "\\u4e2d", "here"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://me:hunter2@host:80/a?b=c", "GET https://***@host:80/a?b=c"),
        ("postgres://u:p@ss@db/x", "postgres://***@db/x"),
        ("https://h/a?X-Amz-Signature=abc&x=1&sig=d%3D", "https://h/a?X-Amz-Signature=***&x=1&sig=***"),
        ("HF_TOKEN=hf_abc python x", "HF_TOKEN=*** python x"),
        ("API_KEY='a b' x", "API_KEY=*** x"),
        ('sources.a.storage.secret="a b"', "sources.a.storage.secret=***"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer ***"),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_hidden(text: str, shown: str) -> None:
    assert redacted(text, {}) == shown


@pytest.mark.parametrize(
    "text",
    [
        "step 1200/50000  loss 3.412  lr 2.9e-4  412k tok/s",
        "train.total_tokens=2048 mask_token=[MASK] TOKENIZERS_PARALLELISM=false",
        "see https://example.org/a@b and file:///tmp/x",
        "textmill: DataError: /data/keys/a.jsonl is missing",
        "mail me@example.org",
    ],
)
def test_logs_stay_readable(text: str) -> None:
    environment = {
        "MAX_TOKENS": "2048",
        "KEY_BITS": "3",
        "USE_AUTH": "true",
        "A_KEY": "",
        "B_KEY": "data",
    }
    assert redacted(text, environment).replace("***", "data") == text


def test_a_short_secret_is_hidden_as_a_word() -> None:
    shown = redacted(
        "open sesame, not opened; sesames", {"A_PASSWORD": "open", "PIN_SECRET": "sesame"}
    )
    assert shown == "*** ***, not opened; sesames"


def test_the_password_of_a_url_is_hidden_elsewhere_too() -> None:
    shown = redacted("user me, password hunter22", {"HTTPS_PROXY": "http://me:hunter22@proxy:80"})
    assert shown == "user me, password ***"
