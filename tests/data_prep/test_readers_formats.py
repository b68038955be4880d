"""JSON, TSV, Markdown, HTML, WARC and CoNLL: examples to check by eye, then damage."""

import gzip
import json
from pathlib import Path

import pytest

from data_prep.documents import Document
from tests.data_prep.test_readers import pairs, read, reasons, source


def texts_of(found: list[tuple[str, str]]) -> list[str]:
    return [text for _, text in found]


def test_nested_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"a": {"b": "inner", "n": 7}}, {"a.b": "literal", "a": {"b": "x"}}, {"a": {"c": "d"}}]
    path.write_text("\n".join(map(json.dumps, rows)))
    params = source("jsonl", path, text="a.b", id="a.n")
    assert pairs(params) == [("7", "inner"), ("a.jsonl@30", "literal")]
    assert read(params)[2].sample == "fields: a.c"  # type: ignore[union-attr]


def test_what_orjson_refuses_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "nan", "score": NaN}\n{"text": "lone \\ud800"}\n'
        '{"text": "big", "id": 123456789012345678901234567890}\n{"text": "null", "id": null}\n'
    )
    params = source("jsonl", path, id="id")
    assert pairs(params) == [
        ("a.jsonl@0", "nan"),
        ("123456789012345678901234567890", "big"),
        ("a.jsonl@108", "null"),
    ]
    assert reasons(params) == {"not valid Unicode": 1}


@pytest.mark.parametrize(
    ("content", "list_at"),
    [
        ('[{"text": "a[{"}, {"text": "b\\"]}"}\n]', None),
        ('{"text": "a[{"}\n\n{"text": "b\\"]}"}', None),
        (
            '{"x": [1, {"rows": 0}], "data": {"rows": [{"text":"a[{"},{"text":"b\\"]}"}]}}',
            "data.rows",
        ),
    ],
)
def test_json(tmp_path: Path, content: str, list_at: str | None) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    params = source("json", path, list_at=list_at)
    found = pairs(params)
    assert texts_of(found) == ["a[{", 'b"]}']
    for id, _ in found:
        assert content[int(id.partition("@")[2]) :].startswith('{"text"')


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_json_does_not_depend_on_how_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    rows = [{"text": f'q"\\u {i} \\ [', "n": [1.5, None, {"k": "]"}]} for i in range(5)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"skip": '\\"', "rows": rows}))
    expected = pairs(source("json", path, list_at="rows"))
    monkeypatch.setattr("data_prep.json_values.BLOCK_BYTES", block)
    assert pairs(source("json", path, list_at="rows")) == expected
    assert texts_of(expected) == [row["text"] for row in rows]


def test_json_damage(tmp_path: Path) -> None:
    good = '{"text": "good"}'
    for name, content in {
        "1": f'[{good}, {{"text": 5}}, {{"text": "{"x" * 500}"}}, {{"text" 1}}, 7, {good}]',
        "2": f'[{good}, {{"text": "cut',
        "3": f"[{good} {good}]",
        "4": "",
        "5": "[]",
        "6": f"[{good}, {{}}",
    }.items():
        (tmp_path / f"{name}.json").write_text(content)
    params = source("json", tmp_path, max_document_bytes=300)
    assert texts_of(pairs(params)) == ["good"] * 5
    assert reasons(params) == {
        "text is not a string": 1,
        "longer than max_document_bytes": 1,
        "corrupt JSON": 3,  # a bad object, a missing comma, a missing bracket
        "not a JSON object": 1,
        "damaged file": 1,
        "text field missing": 1,
    }
    missing = source("json", tmp_path / "1.json", list_at="data")
    assert reasons(missing) == {"corrupt JSON": 1}


def test_tsv(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text('n\ttext\n1\tplain\n2\t"with\ta tab"\n')
    assert texts_of(pairs(source("tsv", path, quotes=True))) == ["plain", "with\ta tab"]
    plain = tmp_path / "b.tsv"
    plain.write_text('n\ttext\n1\t6" of "rain\n2\t"open\n')
    assert texts_of(pairs(source("tsv", plain))) == ['6" of "rain', '"open']


MARKDOWN = """---
title: front matter
---
# A *title*

A [link](http://x) and ![a picture](p.png),
`code` and <b>bold</b> &amp; more.

- one
- two

| a | b |
|---|---|
| 1 | 2 |

```python
x = [1]
```
"""


def test_markdown(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text(MARKDOWN)
    text = "A title\n\nA link and a picture,\ncode and bold & more.\n\none\ntwo\n\na\tb\n1\t2"
    assert pairs(source("markdown", path)) == [("a.md", text + "\n\nx = [1]")]
    assert texts_of(pairs(source("markdown", path, code=False))) == [text]


PAGE = """<html><head><title>T</title><style>p {}</style><script>var x = 1</script></head><body>
<nav><a href="/">Home</a> <a href="/a">About</a></nav>
<main><h1>Title</h1><p>First <b>bold</b> sentence, with a <a href="x">link</a>.</p>
<p>Second paragraph.</p></main><footer>Imprint</footer></body></html>"""


def test_html(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(PAGE)
    main = "Title\n\nFirst bold sentence, with a link.\n\nSecond paragraph."
    assert pairs(source("html", tmp_path)) == [("a.html", main)]
    ((_, everything),) = pairs(source("html", tmp_path, main_content=False))
    assert main in everything
    assert "Home" in everything
    assert "var x" not in everything
    assert "p {}" not in everything


def test_html_encodings(tmp_path: Path) -> None:
    page = '<html><head><meta charset="{}"></head><body><p>中文 и русский</p></body></html>'
    for encoding, declared in (("gb18030", "gbk"), ("utf-8", "latin-1"), ("utf-16", "")):
        (tmp_path / f"{encoding}.html").write_bytes(page.format(declared).encode(encoding))
    assert texts_of(pairs(source("html", tmp_path))) == ["中文 и русский"] * 3


def test_html_without_text_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<html><body><script>x</script></body></html>")
    (found,) = read(source("html", tmp_path))
    assert (found.reason, found.kind) == ("page without text", "dropped")  # type: ignore[union-attr]


def record(kind: str, content_type: str, block: bytes, **headers: str) -> bytes:
    lines = [f"WARC-Type: {kind}", f"Content-Type: {content_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join(["WARC/1.0", *lines, f"Content-Length: {len(block)}", "", ""])
    return head.encode() + block + b"\r\n\r\n"


def response(body: bytes, head: str = "", status: str = "200 OK") -> bytes:
    http = f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n{head}\r\n".encode()
    return record(
        "response", "application/http; msgtype=response", http + body, WARC_Target_URI="u:1"
    )


RECORDS = [
    record("warcinfo", "application/warc-fields", b"software: x"),
    response(PAGE.encode()),
    response(gzip.compress("<p>packed 中文</p>".encode()), "Content-Encoding: gzip\r\n"),
    response(b"5\r\n<p>ch\r\n9\r\nunked</p>\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n"),
    response(b"<p>gone</p>", status="404 Not Found"),
    record("conversion", "text/plain", "WET 文本\n".encode()),
    record("resource", "image/png", b"\x89PNG"),
]


@pytest.mark.parametrize("is_packed", [False, True])
def test_warc(tmp_path: Path, is_packed: bool) -> None:
    path = tmp_path / ("a.warc.gz" if is_packed else "a.warc")
    path.write_bytes(b"".join(gzip.compress(r) if is_packed else r for r in RECORDS))
    params = source("warc", path)
    found = [d for d in read(params) if isinstance(d, Document)]
    assert [document.text for document in found] == [
        "Title\n\nFirst bold sentence, with a link.\n\nSecond paragraph.",
        "packed 中文",
        "chunked",
        "WET 文本\n",
    ]
    assert found[0].id == f"{path.name}@{len(RECORDS[0])}"
    assert found[0].metadata == {"url": "u:1"}
    assert reasons(params) == {"HTTP status is not 200": 1, "content is not text": 1}
    assert pairs(source("warc", path, id="WARC-Target-URI"))[0][0] == "u:1"


def test_warc_damage(tmp_path: Path) -> None:
    wet = record("conversion", "text/plain", b"good")
    bad_length = wet.replace(b"Length: 4", b"Length: -4")
    long = record("conversion", "text/plain", b"x" * 5000)
    broken = response(b"no gzip", "Content-Encoding: gzip\r\n")
    (tmp_path / "a.warc").write_bytes(
        wet + b"garbage\r\nmore\r\n" + wet + bad_length + wet + long + broken + wet + wet[:-6]
    )
    params = source("warc", tmp_path, max_document_bytes=1000)
    assert texts_of(pairs(params)) == ["good"] * 4
    assert reasons(params) == {
        "corrupt WARC record": 3,  # garbage; no length, and so its text
        "longer than max_document_bytes": 1,
        "corrupt HTTP response": 1,
        "damaged file": 1,
    }


CONLL = "-DOCSTART- O\n\nEU B-ORG\nrejects O\n\nPeter B-PER\n\n-DOCSTART- O\n\nBRUSSELS B-LOC\n"


def test_conll(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(CONLL)
    assert pairs(source("conll", path)) == [
        ("a.conll@14", "EU rejects Peter"),
        ("a.conll@61", "BRUSSELS"),
    ]
    by_sentence = source("conll", path, sentences_per_document=1)
    assert texts_of(pairs(by_sentence)) == ["EU rejects", "Peter", "BRUSSELS"]
    path.write_text("# text = A b\n1\tA\t_\n2\tb\t_\n\n3\n\n")
    universal = source(
        "conll", path, token_column=1, delimiter="\t", comment="#", sentences_per_document=1
    )
    assert texts_of(pairs(universal)) == ["A b"]
    assert reasons(universal) == {"token column missing": 1}
