"""What git and the hosts say, row by row: the error, whether it passes by itself, and the next step."""

import re

import pytest

from mirrord.errors import (
    BrokenError,
    BusyError,
    ContentError,
    DeniedError,
    ImmutableError,
    MirrordError,
    MissingError,
    RefusedError,
    ServerError,
    StalledError,
    StorageError,
    ThrottledError,
    UnreachableError,
    UnsupportedError,
    UntrustedError,
)
from mirrord.wire.git.failures import classify, per_ref, words
from mirrord.wire.secret import Secret

UNABLE = "fatal: unable to access 'https://h/r.git/': "
HUNG = "fatal: the remote end hung up unexpectedly\n"
SSH = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n"

TABLE = [
    # transient
    ("resolve", UNABLE + "Could not resolve host: h", UnreachableError),
    ("connect", UNABLE + "Failed to connect to h port 443 after 21 ms: Couldn't connect to server", UnreachableError),
    ("slow", UNABLE + "Operation too slow. Less than 1000 bytes/sec transferred the last 3 seconds", StalledError),
    ("slow-pack", "error: RPC failed; curl 28 Operation too slow. Less than 1 bytes/sec transferred the last 60 seconds\n"
     "fatal: early EOF\nfatal: fetch-pack: invalid index-pack output", StalledError),
    ("handshake", UNABLE + "gnutls_handshake() failed: The TLS connection was non-properly terminated.", UnreachableError),
    ("eof", "error: RPC failed; curl 56 GnuTLS recv error (-110): The TLS connection was non-properly terminated.\n"
     "error: 4021 bytes of body are still expected\nfetch-pack: unexpected disconnect while reading sideband packet\n"
     "fatal: early EOF\nfatal: fetch-pack: invalid index-pack output", BrokenError),
    ("reset", UNABLE + "Recv failure: Connection reset by peer", BrokenError),
    ("408", "error: RPC failed; HTTP 408 curl 22 The requested URL returned error: 408\n" + HUNG, StalledError),
    ("429", UNABLE + "The requested URL returned error: 429", ThrottledError),
    ("429-abuse", "remote: You have exceeded a secondary rate limit.\n" + UNABLE + "The requested URL returned error: 403",
     ThrottledError),
    *((str(status), UNABLE + f"The requested URL returned error: {status}", ServerError) for status in (500, 502, 503, 504)),
    ("504-rpc", "error: RPC failed; HTTP 504 curl 22 The requested URL returned error: 504\n" + HUNG
     + "Everything up-to-date", ServerError),
    ("remote-disk", "remote: fatal: write error: No space left on device\nerror: remote unpack failed: index-pack abnormal "
     "exit\n", ServerError),
    ("ssh-refused", "ssh: connect to host h port 22: Connection refused\n" + SSH, UnreachableError),
    ("ssh-name", "ssh: Could not resolve hostname h: Name or service not known\n" + SSH, UnreachableError),
    ("ssh-late", "ssh: connect to host h port 22: Connection timed out\n" + SSH, StalledError),
    ("ssh-silent", "Timeout, server h not responding.\nfatal: early EOF\n", StalledError),
    ("ssh-closed", "kex_exchange_identification: Connection closed by remote host\nConnection closed by 10.0.0.1 port 22\n"
     + SSH, BrokenError),
    # who we are
    ("token", "remote: Invalid username or password.\nfatal: Authentication failed for 'https://h/r.git/'", DeniedError),
    ("no-token", "fatal: could not read Username for 'https://h': terminal prompts disabled", DeniedError),
    ("no-token-old", "fatal: could not read Username for 'https://h': No such device or address", DeniedError),
    ("403", "remote: Permission to a/b.git denied to robot.\n" + UNABLE + "The requested URL returned error: 403", DeniedError),
    ("403-bare", UNABLE + "The requested URL returned error: 403", DeniedError),
    ("key", "git@h: Permission denied (publickey).\n" + SSH, DeniedError),
    ("gitee-user", "remote: [session-1a2b3c4d] The token username invalid\n" + UNABLE + "The requested URL returned error: 403",
     DeniedError),
    ("gitee-mode", "remote: [session-1a2b3c4d] reject by mode [ja-p]\n" + UNABLE + "The requested URL returned error: 400",
     DeniedError),
    # gone
    ("404", "fatal: repository 'https://h/r.git/' not found", MissingError),
    ("404-github", "remote: Repository not found.\nfatal: repository 'https://github.com/a/b.git/' not found", MissingError),
    ("404-ssh", "ERROR: Repository not found.\n" + SSH, MissingError),
    ("404-path", "fatal: '/srv/x.git' does not appear to be a git repository\n" + SSH, MissingError),
    ("410", UNABLE + "The requested URL returned error: 410", MissingError),
    ("451", UNABLE + "The requested URL returned error: 451", MissingError),
    ("gitlab", "remote: The project you were looking for could not be found or you don't have permission to view it.\n"
     + SSH, MissingError),
    ("moved", UNABLE + "The requested URL returned error: 301", RefusedError),
    # too big
    ("413", "error: RPC failed; HTTP 413 curl 22 The requested URL returned error: 413\nsend-pack: unexpected disconnect while "
     "reading sideband packet\n" + HUNG + "Everything up-to-date", RefusedError),
    ("400", "error: RPC failed; HTTP 400 curl 22 The requested URL returned error: 400\n" + HUNG, RefusedError),
    # policy
    ("hook", "To https://h/r.git\n ! [remote rejected] main -> main (pre-receive hook declined)\nerror: failed to push some "
     "refs to 'https://h/r.git'", RefusedError),
    ("gitee-size", "remote: Powered by GITEE.COM [GNK-5.0]\nremote: This repository(including wiki) size 1143.71 MB, exceeds "
     "1024.00 MB.\nremote: HelpLink:https://gitee.com/help/articles/4232\nremote: Push rejected for repository size exceeds "
     "limit.\n ! [remote rejected] main -> main (pre-receive hook declined)", RefusedError),
    ("gh001", "remote: error: GH001: Large files detected. You may want to try Git Large File Storage\nremote: error: File big "
     "is 123.00 MB; this exceeds GitHub's file size limit of 100.00 MB", RefusedError),
    ("gh008", "remote: error: GH008: Your push referenced at least 1 unknown Git LFS objects:\nremote:     1a2b", RefusedError),
    ("hidden", " ! [remote rejected] refs/pull/1/head -> refs/pull/1/head (deny updating a hidden ref)", RefusedError),
    ("protected", "remote: GitLab: You are not allowed to force push code to a protected branch on this project.", RefusedError),
    ("stale", " ! [rejected]        main -> main (stale info)\nerror: failed to push some refs to 'x'", BusyError),
    ("current", "remote: error: By default, deleting the current branch is denied\n ! [remote rejected] master (deletion of "
     "the current branch prohibited)", RefusedError),
    ("sha256", "fatal: mismatched algorithms: client sha1; server sha256", UnsupportedError),
    ("sha256-push", "fatal: the receiving end does not support this repository's hash algorithm", UnsupportedError),
    ("shallow", " ! [remote rejected] main -> main (shallow update not allowed)", ContentError),
    # damage
    ("incomplete", "error: h did not send all necessary objects", ContentError),
    ("bad-object", "fatal: bad object refs/heads/main\nerror: h did not send all necessary objects", ContentError),
    ("index", "error: packfile .git/objects/pack/pack-1.pack does not match index", ContentError),
    ("broken-ref", "error: cannot lock ref 'refs/heads/x': unable to resolve reference 'refs/heads/x': reference broken",
     ContentError),
    ("upstream", "remote: fatal: unable to read 741a599a3b0a5b3c741a599a3b0a5b3c741a599a\nremote: aborting due to possible "
     "repository corruption on the remote side.\nfatal: early EOF\nfatal: fetch-pack: invalid index-pack output", ContentError),
    ("receiver", "error: remote unpack failed: index-pack abnormal exit\nTo https://h/r.git\n ! [remote rejected] main -> main "
     "(unpacker error)", ContentError),
    ("login-page", "fatal: https://h/r.git/info/refs not valid: is this a git repository?", ContentError),
    # locks
    ("lock", "error: cannot lock ref 'refs/heads/main': Unable to create '/s/git/a.git/refs/heads/main.lock': File exists.",
     BusyError),
    ("packed-lock", "error: Unable to create '/s/git/a.git/packed-refs.lock': File exists.", BusyError),
    # our own machine
    ("disk", "fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output", StorageError),
    ("owner", "fatal: detected dubious ownership in repository at '/s/git/a.git'", StorageError),
    ("no-repository", "fatal: not a git repository: '/s/git/a.git'", StorageError),
    ("rights", "error: insufficient permission for adding an object to repository database ./objects", StorageError),
    # trust
    ("ext", "fatal: transport 'ext' not allowed", UntrustedError),
    ("strange", "fatal: strange hostname '-oProxyCommand=x' blocked", UntrustedError),
    ("unknown-host", "No ED25519 host key is known for h and you have requested strict checking.\nHost key verification "
     "failed.\n" + SSH, UntrustedError),
    ("else", "fatal: something that nobody ever saw", MirrordError),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_table(text, kind):
    """Every text of the table becomes its error, tells the host and what was said, and is one line."""
    error = classify(128, text, "h.example")
    assert type(error) is kind
    assert str(error).startswith("h.example: ")
    assert str(error).isprintable()
    if kind is not MirrordError:
        assert re.search(r" \([^()]*(?:\([^()]*\)[^()]*)*\)\Z", str(error)), "no next step"


TRANSIENT = (UnreachableError, StalledError, BrokenError, ThrottledError, ServerError)


@pytest.mark.parametrize(("text", "kind"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_tokens_fault_is_not_the_networks(text, kind):
    """Only what passes by itself is worth another try; what a person must change is not."""
    assert classify(128, text, "h").retry == (kind in TRANSIENT)


@pytest.mark.parametrize(
    "text",
    [
        UNABLE + "server certificate verification failed. CAfile: none CRLfile: none",
        UNABLE + "SSL certificate problem: self-signed certificate",
        UNABLE + "Received HTTP code 407 from proxy after CONNECT",
        UNABLE + "CONNECT tunnel failed, response 403",
    ],
)
def test_what_does_not_heal(text):
    """A certificate or a proxy that says no is out of reach, and is not tried again at once."""
    error = classify(128, text, "h")
    assert isinstance(error, UnreachableError)
    assert not error.retry


def test_64_changed_host_key():
    """Bad input 64: a changed host key is refused for good, and the text has the fingerprint."""
    said = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
The fingerprint for the ED25519 key sent by the remote host is
SHA256:7o8Ek7mkh3kH3lVfk1aQx9T0Hc5l1m2n3o4p5q6r7s8.
Host key verification failed.
"""
    error = classify(128, said + SSH, "h")
    assert isinstance(error, UntrustedError)
    assert (error.reason, error.retry) == ("host_key", False)
    assert "SHA256:7o8Ek7mkh3kH3lVfk1aQx9T0Hc5l1m2n3o4p5q6r7s8" in str(error)
    assert "@@@" not in str(error)


def test_the_hosts_own_words_come_first():
    """What the host says is told before what git says; git's stage directions are left out, and each line comes once."""
    said = "To https://h/r.git\nfatal: unable to access\nremote: Repository is frozen.\nremote: \nremote: Repository is frozen.\n"
    assert words(said + HUNG) == "Repository is frozen.; unable to access"
    assert words(HUNG) == "the remote end hung up unexpectedly"
    assert words("") == ""


def test_status_of_refusals():
    """Where git tells the HTTP status, the error has it."""
    error = classify(128, UNABLE + "The requested URL returned error: 451", "h")
    assert isinstance(error, MissingError)
    assert error.status == 451


def test_66_no_secret_in_a_message():
    """Bad input 66: neither a secret that we hold nor one in somebody's URL is repeated."""
    secret = Secret("canary-9f2d1c")
    said = f"remote: canary-9f2d1c is wrong\nfatal: Authentication failed for 'https://me:other@h/{secret.reveal()}'"
    text = str(classify(128, said, "h"))
    assert "canary" not in text
    assert "other" not in text


@pytest.mark.parametrize(("host", "kind"), [("h", BrokenError), ("", StorageError)])
def test_f40_ended_by_a_signal(host, kind):
    """Fault 40: a git that was killed from outside, without a word, is told so."""
    error = classify(-9, "", host)
    assert type(error) is kind
    assert "signal 9" in str(error)


REASONS = [
    ("deny updating a hidden ref", RefusedError),
    ("protected branch hook declined", RefusedError),
    ("pre-receive hook declined", RefusedError),
    ("deletion of the current branch prohibited", RefusedError),
    ("non-fast-forward", RefusedError),
    ("stale info", BusyError),
    ("fetch first", BusyError),
    ("cannot lock ref 'refs/heads/x': is at 1234 but expected 5678", BusyError),
    ("already exists", ImmutableError),
    ("unpacker error", ContentError),
    ("failed to update ref", ServerError),
    ("no idea", RefusedError),
]


@pytest.mark.parametrize(("reason", "kind"), REASONS, ids=[row[0] for row in REASONS])
def test_62_one_ref(reason, kind):
    """Bad input 62, fault 26: a rejected ref is told by name, with the host's reason."""
    error = per_ref("refs/heads/x", reason)
    assert type(error) is kind
    assert str(error).startswith(f"refs/heads/x: {reason}")
