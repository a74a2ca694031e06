"""What errors advise about the rules for a host: keys under `hosts:`.

A command that reads no configuration says something else instead (`HostBook.advice`).
"""

from __future__ import annotations

from typing import Final

OWN_AUTH: Final = "write `auth:` under hosts:"
AUTH: Final = f"{OWN_AUTH}, or run"
CA: Final = "write `ca: FILE` under hosts:"
CERTIFICATE: Final = "check `certificate:` under hosts:"
INSECURE: Final = "write `insecure: true` under hosts:"
PRIVATE: Final = "write `allow_private: true` under hosts:"
PROXY: Final = "check `proxy:` under hosts:"
PROXY_AUTH: Final = "write `proxy_auth:` under hosts:"
PROXY_LOGIN: Final = "correct `proxy_auth:` under hosts:"
REALM: Final = "add to its `token_realms:` under hosts: `"  # the realm and a backtick follow
TLS: Final = "write `insecure: false` under hosts:"
