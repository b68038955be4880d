"""The text of an HTML page, by resiliparse.

It keeps block structure as line breaks and joins inline elements without a gap (selectolax, nearly
twice as fast, has one separator for both: it breaks sentences at every link or glues paragraphs),
gives no scripts or styles, and can leave out what is not the main text, such as navigation.
"""

from dataclasses import replace

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

from data_prep.documents import Document, Reject, drop, quarantine
from data_prep.encodings import MARK_BYTES, encoding_of

ESCAPE = b"\x1b"  # begins the Chinese and Japanese of encodings that are all ASCII
REPLACEMENT = "\ufffd"
MAX_REPLACED_SHARE = 0.01  # of characters; a page with more of them is damaged


def with_text(
    empty: Document, content: bytes, charset: str | None, main_content: bool
) -> Document | Reject:
    """`empty` with the text of a page; `charset` is what the server said."""
    page = decoded(content, charset)
    if page.count(REPLACEMENT) > MAX_REPLACED_SHARE * len(page):
        return quarantine(empty.id, "encoding of the page unknown", page)
    text = extract_plain_text(
        page, main_content=main_content, list_bullets=False, alt_texts=False, comments=False
    )
    return replace(empty, text=text) if text.strip() else drop(empty, "page without text")


def decoded(content: bytes, charset: str | None) -> str:
    """A page as text: a byte order mark decides; then whether it is valid UTF-8, which other text
    is never by chance; then the server; then the page itself, or its bytes.

    What cannot be decoded becomes U+FFFD.
    """
    marked = encoding_of(content[:MARK_BYTES], "")
    if marked:
        return content.decode(marked, errors="replace")
    if ESCAPE not in content:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass
    for encoding in filter(None, [charset, detect_encoding(content, from_html_meta=True), "utf-8"]):
        try:
            return bytes_to_str(content, encoding, errors="replace", fallback_encodings=())
        except LookupError:
            continue  # a server may say anything
    raise AssertionError("utf-8 is known")
