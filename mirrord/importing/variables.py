"""Placeholders of other tools: replaced in addresses and user names, and never in passwords."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mirrord.importing.draft import Draft, variable
from mirrord.importing.section import Section
from mirrord.importing.values import Keys

TEMPLATE = re.compile(r"\{\{-?\s*env\s+[\"`]([A-Za-z_][A-Za-z0-9_]*)[\"`]\s*-?\}\}")
"""Go's templates, as regsync has them: `{{env "NAME"}}`."""
SHELL = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$([A-Za-z_][A-Za-z0-9_]*)")
"""`${NAME}` and `$NAME`, as image-syncer has them."""
WORKFLOW = re.compile(r"\$\{\{\s*(?:secrets|vars|env)\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
"""Expressions of workflows: `${{ secrets.NAME }}`."""

_FILE = re.compile(r"\{\{-?\s*file\s+[\"`](/[^\"`]+)[\"`]\s*-?\}\}")
_SECRET = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|PRIVATE|AUTH", re.IGNORECASE)
_USER = "CHANGE-ME"


def expanded(text: str, pattern: re.Pattern[str], environ: Mapping[str, str]) -> str:
    """Return a text with its variables replaced.

    Raises:
        ValueError: one is not set, or may be a secret: a stranger's file must not name what is written into an address.
    """

    def value(found: re.Match[str]) -> str:
        name = next(filter(None, found.groups()))
        if _SECRET.search(name):
            raise ValueError(
                f"has the variable {name}, which may be a secret and is not written; write the text itself"
            )
        if name not in environ:
            raise ValueError(f"has the variable {name}; set it for the import: {name}=… mirrord import …")
        return environ[name]

    return pattern.sub(value, text)


def add_login(section: Section, names: tuple[str, str], host: str, pattern: re.Pattern[str], draft: Draft) -> None:
    """Add a user name and a password of a section to a host; the password stays where it is, or is left out.

    Args:
        section: has the two.
        names: their keys.
        host: as mirrord spells it.
        pattern: of variables.
        draft: gets them.
    """
    user, password = (section.text(name) for name in names)
    if not user and not password:
        return
    if not (user and password):
        section.tell(names[0], f"{host} has only one of {' and '.join(names)}, so no login was written")
        return
    try:
        user = expanded(user, pattern, draft.options.environ)
    except ValueError as error:
        section.lose(names[0], f"{error}; or write the user name in place of {_USER}")
        user = _USER
    draft.login(host, section.origin(names[1]), user, password_keys(password, host, pattern))


def password_keys(text: str, host: str, pattern: re.Pattern[str]) -> Keys:
    """Return where a password is: in the variable or file that the text names; a plain one is not copied."""
    if found := pattern.fullmatch(text):
        return {"env": next(filter(None, found.groups()))}
    if found := _FILE.fullmatch(text):
        return {"file": found[1]}
    return {"env": variable(host)}
