"""Lines of a page that are not its text: notices, menus, footers, buttons. English and Chinese.

Unlike `c4` it removes only what it knows, so it can be used on any running text. A line is judged
by itself, if it is short, and as a whole: "Read more" goes, "Read more books!" stays. Documents
about these things lose a few lines (a manual of cookies, the licence header of a program): a rule
that does not fit a source is switched off by its field.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from pydantic import Field

from data_prep.cleaning import Step, with_lines
from data_prep.documents import Document, Reject
from data_prep.facts import facts_of

BREAKS = ("|", "»", "›", "·", "•", ">", "/", "\t", "   ")  # between the items of a menu
ITEM_BREAK = re.compile(r"\s*[|»›·•>/]\s*|\t|\s{3,}")
MENU = frozenset(
    """home;homepage;about;about us;contact;contact us;contacts;help;faq;faqs;support;search;news;
    blog;shop;store;cart;my cart;checkout;account;my account;login;log in;log out;logout;sign in;
    sign up;sign out;register;subscribe;newsletter;menu;sitemap;site map;privacy;privacy policy;
    cookie policy;terms;terms of use;terms of service;terms & conditions;terms and conditions;legal;
    disclaimer;imprint;accessibility;careers;jobs;press;advertise;next;previous;prev;back;top;rss;
    feed;archive;archives;forum;forums;gallery;products;services;facebook;twitter;instagram;youtube;
    linkedin;首页;关于我们;联系我们;登录;注册;帮助;搜索;新闻;论坛;网站地图;隐私政策;服务条款;免责声明;
    加入收藏;设为首页;退出;购物车;我的账户""".replace("\n", "")
    .replace(";    ", ";")
    .split(";")
)


@dataclass(frozen=True)
class Rule:
    """What a whole line looks like, lower-cased."""

    signs: tuple[str, ...]  # without one of them in a text no line of it does; none: always look
    lines: str  # a regular expression


def rule(signs: str, *lines: str) -> Rule:
    """A rule from signs separated by ";", and expressions of which a line must match one."""
    return Rule(tuple(filter(None, signs.split(";"))), "|".join(lines))


RULES = {
    "cookies": rule(
        "cookie",
        r".*\b(?:uses?|using|accept|allow|enable|disable|manage|reject)\b.{0,30}\bcookies?\b.*",
        r".*\bcookies? (?:policy|notice|settings?|preferences|consent)\b.*",
        r".*(?:使用|接受|启用).{0,6}cookies?.*",
    ),
    "javascript": rule(
        "javascript",
        r".*\bjavascript\b.{0,40}\b(?:disabled|enabled?|required|supported|turned (?:on|off))\b.*",
        r".*\b(?:enable|activate|requires?|turn on|without|supports?)\b.{0,30}\bjavascript\b.*",
        r".*(?:启用|开启|禁用|支持).{0,8}javascript.*",
    ),
    "copyright": rule(
        "copyright;©;(c);all rights reserved;版权所有;保留所有权利",
        r"(?:copyright\s*)?(?:©|\(c\))\s*(?:copyright\s*)?.{0,60}\b\d{4}\b.*",
        r"copyright\s+\d{4}\b.*",
        r".{0,60}\ball rights reserved",
        r".{0,40}(?:版权所有|保留所有权利).{0,40}",
    ),
    "read_more": rule(
        "",
        r"(?:read|learn|show|see|view|load) (?:more|all)",
        r"continue reading",
        r"(?:read|view) (?:the )?full (?:article|story)",
        r"(?:阅读|查看|展开)(?:更多|全文|原文)",
    ),
    "share": rule(
        "",
        r"share(?: (?:this|on|via|with).{0,40})?",
        r"tweet(?: this)?",
        r"pin it",
        r"(?:e-?mail|print) this (?:page|article|post|to a friend)",
        r"(?:follow|like|find) us on.{0,60}",
        r"分享(?:到|给|至).{0,30}",
        r"关注我们.{0,20}",
    ),
    "page_links": rule(
        "",
        r"(?:skip|jump|go) to (?:main )?(?:content|navigation|search|menu)",
        r"back to (?:the )?top",
        r"toggle navigation",
        r"返回(?:顶部|首页)",
        r"[上下]一[篇页].{0,40}",
    ),
}


class Params(Step):
    """Removes short lines that are known not to be text."""

    step: str = "boilerplate"
    cookies: bool = True  # "This site uses cookies ...", "Cookie settings"
    javascript: bool = True  # "Please enable JavaScript ..."
    copyright: bool = True  # "© 2020 Somebody", "All rights reserved."; also licence headers
    read_more: bool = True  # "Read more", "Continue reading »"
    share: bool = True  # "Share on Facebook", "Tweet", "Follow us on ..."
    page_links: bool = True  # "Skip to content", "Back to top"
    navigation: bool = True  # "Home | About us | Contact"
    max_characters: int = Field(default=200, ge=1)  # of a line; longer ones are text


def clean(document: Document, params: Params) -> Document | Reject:
    """The document without those lines, or a reject if nothing else is in it."""
    lowered = facts_of(document).lowered
    pattern = pattern_of(
        tuple(
            name
            for name, known in RULES.items()
            if getattr(params, name)
            and (not known.signs or any(sign.encode() in lowered for sign in known.signs))
        )
    )
    breaks = [sign for sign in BREAKS if params.navigation and sign.encode() in lowered]
    lines = document.text.split("\n")
    kept = [
        line
        for line in lines
        if len(line) > params.max_characters or not is_known(line.strip().lower(), pattern, breaks)
    ]
    return document if len(kept) == len(lines) else with_lines(document, kept, "boilerplate")


@lru_cache(maxsize=1 << len(RULES))
def pattern_of(names: tuple[str, ...]) -> re.Pattern[str]:
    """The lines of several rules, with punctuation and arrows around them."""
    if not names:
        return re.compile(r"(?!)")  # matches nothing
    return re.compile(rf"\W*(?:{'|'.join(RULES[name].lines for name in names)})\W*")


def is_known(line: str, pattern: re.Pattern[str], breaks: list[str]) -> bool:
    """Whether a lower-cased line is one of the pattern, or a menu with one of these breaks."""
    if not line:
        return False
    if pattern.fullmatch(line):
        return True
    return any(sign in line for sign in breaks) and is_menu(line)


def is_menu(line: str) -> bool:
    """Whether a lower-cased line is three or more short items, half of them known from menus."""
    items = [item for item in ITEM_BREAK.split(line) if item]
    return len(items) >= 3 and 2 * sum(item in MENU for item in items) >= len(items)
