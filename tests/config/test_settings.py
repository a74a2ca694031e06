"""`settings:`, and how wrong values are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mirrord.config.load import Configuration
from mirrord.config.settings import Settings
from mirrord.config.units import parse_duration, parse_rate, parse_size, spell_duration

Load = Callable[..., Configuration]
Refusal = Callable[..., tuple[str, ...]]

EXAMPLE = "targets: {}\n"


def test_defaults(load: Load) -> None:
    """Nothing has to be written."""
    settings = load(EXAMPLE).settings
    assert settings == Settings()
    assert (settings.listen, settings.spool.budget, settings.parallel) == ("127.0.0.1:8080", 20 * 2**30, 8)
    assert (settings.trust, settings.deadline, settings.log.format) == (43200.0, 21600.0, "auto")


def test_everything_can_be_written(load: Load) -> None:
    """Each key changes what it names."""
    settings = load(
        "settings: {listen: '[::1]:0', spool: {budget: 1.5GiB}, parallel: 6, trust: 0s, "
        "deadline: 1h30m, log: {format: json, level: debug}}"
    ).settings
    assert settings.listen == "[::1]:0"
    assert (settings.spool.budget, settings.parallel, settings.trust, settings.deadline) == (3 * 2**29, 6, 0.0, 5400.0)
    assert (settings.log.format, settings.log.level) == ("json", "debug")


def test_the_environment_overrides_listen(load: Load, refusal: Refusal) -> None:
    """MIRRORD_LISTEN, as containers set it, wins; an empty one says nothing; a wrong one is named."""
    written = "settings: {listen: 127.0.0.1:1}"
    assert load(written, {"MIRRORD_LISTEN": "0.0.0.0:8080"}).settings.listen == "0.0.0.0:8080"
    assert load(written, {"MIRRORD_LISTEN": ""}).settings.listen == "127.0.0.1:1"
    (problem,) = refusal(written, {"MIRRORD_LISTEN": "8080"})
    assert problem.startswith(
        "environment MIRRORD_LISTEN: settings.listen: '8080' is not an address to listen on; write host:port"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lisen: x", "settings.lisen: unknown key; did you mean 'listen'?"),
        (
            "zzz: x",
            "settings.zzz: unknown key; use one of: about, bandwidth, blobs, deadline, denied, listen, local",
        ),
        ("spool: {budgt: 1GiB}", "settings.spool.budgt: unknown key; did you mean 'budget'?"),
        (
            "listen: ':8080'",
            "settings.listen: ':8080' is not an address to listen on; write host:port, such as 127.0.0.1:8080",
        ),
        (
            "listen: a:65536",
            "settings.listen: 'a:65536' is not an address to listen on; write host:port, such as 127.0.0.1:8080",
        ),
        ("url: mirror.example.org", "settings.url: refused: a URL with scheme ''; only http and https"),
        ("url: 'ftp://a.example'", "settings.url: refused: a URL with scheme 'ftp'; only http and https"),
        (
            "url: 'https://crane:secret-word@a.example'",
            "settings.url: refused: a URL to a.example with user name or pas",
        ),
        (
            "url: 'https://a.example/mirror'",
            "settings.url: 'https://a.example' is followed by a path or a query; write",
        ),
        ("url: 'https://a.example?x=1'", "settings.url: 'https://a.example' is followed by a path or a query; write"),
        ("url: 'https://a.example/#x'", "settings.url: 'https://a.example' is followed by a path or a query; write"),
        ("listen: [a]", "settings.listen: a list is not text; write text, such as 127.0.0.1:8080"),
        ("parallel: many", "settings.parallel: 'many' is not a whole number; write a whole number, such as 6"),
        ("parallel: 0", "settings.parallel: '0' is not allowed; write a value greater than or equal to 1"),
        ("spool: 20GiB", "settings.spool: '20GiB' is not a mapping; write a mapping, such as {budget: …}"),
        ("spool: {budget: 20}", "settings.spool.budget: '20' is not a size; write a number with a unit (B, kB, MB"),
        ("spool: {budget: 1B}", "settings.spool.budget: is outside 16MiB to 1024TiB; write something between them"),
        ("deadline: 0s", "settings.deadline: 0s is outside 10s to 30d; write a duration between them"),
        ("proxies: [10.0.0.1/8]", "settings.proxies[0]: '10.0.0.1/8' has digits beyond its prefix; write 10.0.0.0/8"),
        ("tls: {key: /a}", "settings.tls.certificate: is missing"),
        ("tls: {certificate: a.pem, key: /etc/passwd}", "settings.tls.certificate: a.pem is not absolute; write an"),
        ("proxies: [nginx]", "settings.proxies[0]: 'nginx' is no address and no network; write one such as 10.0.0.0/8"),
        ("proxies: [10]", "settings.proxies[0]: '10' is no address and no network; write one such as 10.0.0.0/8"),
        ("proxies: ['::/129']", "settings.proxies[0]: '::/129' is no address and no network; write one such as"),
        ("log: {level: inf}", "settings.log.level: 'inf' is not allowed; did you mean 'info'?"),
        ("log: {format: xml}", "settings.log.format: 'xml' is not allowed; use one of: auto, json, text"),
    ],
)
def test_wrong_settings(refusal: Refusal, text: str, said: str) -> None:
    """Bad input 67: each wrong value is told with its line, its key and what to write instead."""
    (problem,) = refusal(f"\nsettings: {{{text}}}")
    assert problem.startswith(f"main.yaml:2: {said}")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", "http://127.0.0.1:8080"),
        ("listen: '0.0.0.0:80'", "http://localhost:80"),
        ("listen: '[::]:8080'", "http://localhost:8080"),
        ("listen: '[::1]:8080'", "http://[::1]:8080"),
        ("listen: 127.0.0.1:0", ""),
        ("url: https://Mirror.Example.ORG:443/", "https://mirror.example.org"),
        ("url: 'http://10.0.0.7:8080', listen: 0.0.0.0:8080", "http://10.0.0.7:8080"),
    ],
)
def test_the_address_for_clients(load: Load, text: str, address: str) -> None:
    """It is `url`, in one spelling; without that it follows from `listen`, and is unknown with port 0."""
    settings = load(f"settings: {{{text}}}").settings
    assert settings.address() == address
    assert settings.address("127.0.0.1:4711") == (settings.url or "http://127.0.0.1:4711")


@pytest.mark.parametrize(
    ("text", "listen", "others"),
    [
        ("", "", False),
        ("listen: '[::1]:8080'", "", False),
        ("listen: 'localhost:8080', url: 'https://127.9.9.9:8443'", "", False),
        ("listen: '0.0.0.0:8080'", "", True),
        ("listen: '[::]:8080'", "", True),
        ("listen: '10.0.0.7:8080'", "", True),
        ("listen: '10.0.0.7:8080'", "127.0.0.1:8080", False),
        ("", "0.0.0.0:8080", True),
        ("url: 'https://mirror.example.org'", "", True),
        ("url: 'https://[2001:db8::1]'", "", True),
        ("url: 'https://[::1]'", "", False),
    ],
)
def test_whether_others_can_reach_it(load: Load, text: str, listen: str, others: bool) -> None:
    """They can unless both where it listens and its public address are on loopback."""
    assert load(f"settings: {{{text}}}").settings.reaches_others(listen) is others


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("6h", 21600), ("1d", 86400), ("1h30m", 5400), ("0.5s", 0.5), (7, 7), (0.25, 0.25)],
)
def test_durations(text: object, seconds: float) -> None:
    """Durations are read as people write them, and numbers from code are seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "6", "6 h", "-6h", "h", "1ms", "6H", "٦h", "1e3s", "1" * 40 + "s", "s" * 9999, None, True, []]
)
def test_no_durations(text: object) -> None:
    """Bad input 72: what has no unit, a sign or too many digits is refused with examples."""
    with pytest.raises(ValueError, match=r"is not a duration; write .*90s, 15m, 6h, 1d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1B", 1),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("1.5MiB", 3 * 2**19),
        ("20GiB", 20 * 2**30),
        ("2 TB", 2 * 10**12),
        (5, 5),
    ],
)
def test_sizes(text: object, size: int) -> None:
    """Sizes are read with units of thousands and of 1024s."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "20", "20G", "20gib", "-1B", "1KB", "1" * 30 + "B", None, True, 1.5])
def test_no_sizes(text: object) -> None:
    """What has no unit or one that is read differently by everybody is refused."""
    with pytest.raises(ValueError, match="is not a size; write"):
        parse_size(text)


def test_rates() -> None:
    """Rates are sizes a second."""
    assert parse_rate("40MiB/s") == 40 * 2**20
    for wrong in ("40MiB", "40/s", "40MiB/m", "", None):
        with pytest.raises(ValueError, match=r"is not a rate; write bytes per second"):
            parse_rate(wrong)


@pytest.mark.parametrize("text", ["45s", "15m", "6h", "2d"])
def test_durations_are_spelt_as_they_are_read(text: str) -> None:
    """A duration in a message can be copied into the configuration."""
    assert spell_duration(parse_duration(text)) == text
