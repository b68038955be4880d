"""Personal data: replace e-mail addresses, phone numbers, IP addresses, card and account numbers.

By patterns, and by checksum where there is one: public IP addresses only, card numbers that pass
Luhn's test (ISO/IEC 7812-1), IBANs of their country's length that pass the test modulo 97 (ISO
13616). Names and street addresses are not found. What merely looks like one of them is replaced
too: a version number of four parts is an IP address.

The number of replacements is added to metadata.redacted.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from data_prep.cleaning import Step
from data_prep.documents import Document, Reject

# ISO 13616 register: country and length.
IBAN_COUNTRIES = """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20
    EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30
    KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24
    PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22
    VG24 XK20
"""
IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in IBAN_COUNTRIES.split()}
GLOBAL_UNICAST = 1  # the first three bits of public IPv6 addresses, RFC 4291

# Every pattern begins where no other character of its kind stands before, so that a search stays
# linear on text without spaces. ASCII only: a number between Chinese characters is a number.
EMAIL = re.compile(
    r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,6}[a-z]{2,24}(?![\w@])",
    re.ASCII | re.IGNORECASE,
)
IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)", re.ASCII)
IPV6 = re.compile(r"(?<![\w:.])[0-9a-f:]{3,39}(?![\w:])", re.ASCII | re.IGNORECASE)
CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])", re.ASCII)
IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d\d(?: ?[A-Z0-9]){11,30}", re.ASCII)
PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}"  # international
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[.-]\d{4}"  # North America
    r"|(?:\(0\d{1,4}\) ?|0\d{1,4}[ /-])\d{3,4}[ -]?\d{3,4}"  # trunk 0: Europe, Asia
    r"|1[3-9]\d(?:\d{8}|[ -]\d{4}[ -]\d{4})"  # Chinese mobile
    r")(?![\w-])",
    re.ASCII,
)


class Params(Step):
    """Replaces what identifies a person by a placeholder. Opt-in."""

    step: str = "pii"
    emails: bool = True  # addresses with a domain of at least two parts
    ip_addresses: bool = True  # public ones; 10.0.0.1, 127.0.0.1 and the like stay
    cards: bool = True  # 13-19 digits with a valid check digit
    ibans: bool = True  # of the length and check digits of their country
    phones: bool = True  # with a country code, North American, with a trunk 0, Chinese mobile
    email_placeholder: str = "<email>"  # what stands in place of each
    ip_placeholder: str = "<ip>"  # what stands in place of each
    card_placeholder: str = "<card>"  # what stands in place of each
    iban_placeholder: str = "<iban>"  # what stands in place of each
    phone_placeholder: str = "<phone>"  # what stands in place of each


@dataclass(frozen=True)
class Kind:
    """One kind of personal data."""

    pattern: re.Pattern[str]
    placeholder: str
    length: Callable[[str], int]  # how many characters of a match are meant; 0: none


def clean(document: Document, params: Params) -> Document | Reject:
    """The document with placeholders, and their number added to metadata.redacted."""
    text, total = document.text, 0
    for kind in kinds_in(text, params):
        text, number = redacted(text, kind)
        total += number
    if not total:
        return document
    total += int(document.metadata.get("redacted", "0"))
    return replace(document, text=text, metadata=document.metadata | {"redacted": str(total)})


def kinds_in(text: str, params: Params) -> list[Kind]:
    """What to look for: what is switched on and has its sign in the text. Longest first."""
    found = []
    if params.emails and "@" in text:
        found.append(Kind(EMAIL, params.email_placeholder, len))
    if params.ibans:
        found.append(Kind(IBAN, params.iban_placeholder, iban_length))
    if params.cards:
        found.append(Kind(CARD, params.card_placeholder, card_length))
    if params.ip_addresses:
        found.append(Kind(IPV4, params.ip_placeholder, ip_length))
        if ":" in text:
            found.append(Kind(IPV6, params.ip_placeholder, ip_length))
    if params.phones:
        found.append(Kind(PHONE, params.phone_placeholder, phone_length))
    return found


def redacted(text: str, kind: Kind) -> tuple[str, int]:
    """The text with a placeholder for every match that is meant, and their number."""
    number = 0

    def placeholder(match: re.Match[str]) -> str:
        nonlocal number
        found = match.group()
        length = kind.length(found)
        if not length or found == kind.placeholder:
            return found
        number += 1
        return kind.placeholder + found[length:]

    return kind.pattern.sub(placeholder, text), number


def iban_length(found: str) -> int:
    """Up to where the match is an account number: words in capitals may follow it."""
    wanted = IBAN_LENGTHS.get(found[:2], 0)
    end = wanted  # with the spaces between its groups
    while found.count(" ", 0, end) > end - wanted and end < len(found):
        end += 1
    code = found[:end].replace(" ", "")
    if len(code) != wanted or found[end : end + 1].isalnum():
        return 0
    return end if int("".join(str(int(sign, 36)) for sign in code[4:] + code[:4])) % 97 == 1 else 0


def card_length(found: str) -> int:
    digits = [int(sign) for sign in found if sign.isdecimal()]
    if digits[0] not in (2, 3, 4, 5, 6) or len(set(digits)) == 1:
        return 0
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return len(found) if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else 0


def ip_length(found: str) -> int:
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return 0
    if isinstance(address, ipaddress.IPv6Address) and int(address) >> 125 != GLOBAL_UNICAST:
        return 0
    return len(found) if address.is_global else 0


def phone_length(found: str) -> int:
    """International numbers have at most 15 digits (ITU-T E.164), and no real one fewer than 7."""
    return len(found) if 7 <= sum(sign.isdecimal() for sign in found) <= 15 else 0
