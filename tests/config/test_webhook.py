"""`webhook:` as the program reads it: off by default, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.config.load import Configuration, read_folder
from mirrord.daemon.changes import changes_of
from mirrord.errors import ConfigError
from mirrord.syncer.port import load_syncers
from tests.support.tls import Authority

SYNCERS = load_syncers()


def loaded(folder: Path, text: str) -> Configuration:
    (folder / "a.yaml").write_text(f"{text}\n")
    return read_folder(folder, SYNCERS, {})


def test_off_by_default(tmp_path: Path) -> None:
    """Without the section nothing listens; an empty one is a mistake, since it does not say where."""
    assert loaded(tmp_path, "").webhook is None
    assert loaded(tmp_path, "webhook:").webhook is None


def test_keys(tmp_path: Path) -> None:
    """An authority of ours needs names alone; files of somebody else need none."""
    own = loaded(tmp_path, "webhook: {listen: '0.0.0.0:8443', names: [w.mirrord.svc, 127.0.0.1, '::1']}").webhook
    assert own is not None
    assert (own.names, own.except_) == (("w.mirrord.svc", "127.0.0.1", "::1"), ("kube-system", "kube-node-lease"))
    certificate, key = Authority(tmp_path).pair("w.mirrord.svc")
    text = f"webhook: {{listen: ':8443', certificate: {certificate}, key: {key}, except: []}}"
    theirs = loaded(tmp_path, text.replace("':8443'", "127.0.0.1:8443")).webhook
    assert theirs is not None
    assert (theirs.certificate, theirs.key, theirs.except_) == (str(certificate), str(key), ())


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{}", "webhook.listen: is missing"),
        ("{listen: 8443}", "webhook.listen: '8443' is not an address to listen on; write host:port, such as"),
        ("{listen: 'a:1'}", "webhook: has neither names: nor certificate: and key:; write names: [mirrord-webhook."),
        ("{listen: 'a:1', names: ['https://a']}", "webhook.names[0]: 'https://a' is no host name; write one in lower"),
        ("{listen: 'a:1', names: [A.svc]}", "webhook.names[0]: 'A.svc' is no host name"),
        ("{listen: 'a:1', certificate: /a}", "webhook.certificate: has no key; write key: beside it"),
        ("{listen: 'a:1', key: /a}", "webhook.key: has no certificate; write certificate: beside it"),
        ("{listen: 'a:1', certificate: a, key: /a}", "webhook.certificate: a is not absolute"),
        ("{port: 1}", "webhook.port: unknown key; write listen: 0.0.0.0:8443"),
        ("{policy: always}", "webhook.policy: unknown key; write it below pointing:"),
        ("[a]", "webhook: is not a mapping; write keys such as listen: 0.0.0.0:8443"),
    ],
)
def test_mistakes(section: str, problem: str, tmp_path: Path) -> None:
    """Each says where it is, what is wrong and what to write."""
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, f"webhook: {section}")
    assert any(problem in one for one in raised.value.problems), raised.value.problems


def test_names_have_no_effect_with_a_certificate(tmp_path: Path) -> None:
    """The certificate has names of its own."""
    certificate, key = Authority(tmp_path).pair("w")
    with pytest.raises(ConfigError, match=r"webhook.names: has no effect with certificate:"):
        loaded(tmp_path, f"webhook: {{listen: 'a:1', names: [w], certificate: {certificate}, key: {key}}}")


def test_it_counts_from_a_start_on(tmp_path: Path) -> None:
    """A reload says what waits for a restart."""
    before = loaded(tmp_path, "")
    after = loaded(tmp_path, "webhook: {listen: '127.0.0.1:1', names: [w]}")
    assert changes_of(before, after, before).waiting == ("webhook",)
    assert changes_of(before, after, after).waiting == ()
