"""What `mirrord check` says of `create:` and of `hosts.HOST.aws`."""

from __future__ import annotations

import pytest

from tests.support.commands import Desk

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("to", "create", "said"),
    [
        ("docker.io/team", "{}", "docker.io is Docker Hub; remove create"),
        ("registry.example/team", "{}", "write `profile: harbor` or `ecr` for it under hosts:"),
        ("oci:/srv/images", "{}", "is a folder, which is made anyway; remove create"),
        (f"{ECR}/team", "{public: true}", "Amazon ECR has no public; it knows encryption, except, mutability, policy"),
        ("public.ecr.aws/abc", "{scan: true}", "Amazon ECR Public has no scan; it knows policy, tags"),
        (f"{ECR}/team", "{mutability: immutabel}", "'immutabel' is not allowed; did you mean 'immutable'?"),
        (f"{ECR}/team", "{except: [latest]}", "except needs mutability; write `mutability: immutable` beside it"),
        (f"{ECR}/team", "{mutability: mutable, except: ['*a*b*']}", "has more than 2 `*`"),
        (f"{ECR}/team", "{encryption: {type: aes256, key: k}}", "key needs `type: kms`"),
        (f"{ECR}/team", "{policy: none.json}", "conf.d/none.json does not exist"),
        (f"{ECR}/team", "{policy: broken.json}", "conf.d/broken.json is not JSON"),
        (f"{ECR}/team", "{policy: {Version: '2012-10-17'}}", "has no Statement"),
    ],
)
async def test_what_does_not_fit_is_said(desk: Desk, to: str, create: str, said: str) -> None:
    """One error names file, target, key and what to write."""
    desk.configure(
        f"targets: {{t: {{kind: image, to: '{to}', create: {create}}}}}\n"
        "mirrors: [{name: app, kind: image, from: {repository: quay.io/a/b}, to: [t]}]"
    )
    (desk.folder / "conf.d" / "broken.json").write_text("{")
    told = await desk.run("check")
    assert told.status == 78
    assert "targets.t.create" in told.err
    assert said in told.err
    assert len([line for line in told.err.splitlines() if "targets.t" in line]) == 1


async def test_what_fits_is_accepted(desk: Desk) -> None:
    """ECR with all its keys, ECR Public and Harbor with theirs."""
    every = (
        "{mutability: immutable, except: [latest], scan: true, encryption: {type: kms}, tags: {a: b}, policy: p.json}"
    )
    desk.configure(
        "hosts: {harbor.example: {profile: harbor}}\n"
        "targets:\n"
        f"  a: {{kind: image, to: {ECR}/team, create: {every}}}\n"
        "  b: {kind: image, to: public.ecr.aws/abc, create: {tags: {a: b}}}\n"
        "  c: {kind: image, to: harbor.example/team, create: {public: true, storage_limit: 10GiB}}\n"
        "mirrors: [{name: app, kind: image, from: {repository: quay.io/a/b}, to: [a, b, c]}]"
    )
    (desk.folder / "conf.d" / "p.json").write_text('{"Version": "2012-10-17", "Statement": [{"Effect": "Allow"}]}')
    told = await desk.run("check")
    assert told.status == 0, told.err


@pytest.mark.parametrize(
    ("host", "keys", "said"),
    [
        ("ghcr.io", "aws: {}", "ghcr.io is GitHub's registry, and not Amazon ECR; remove it"),
        ("registry.example", "profile: harbor, aws: {}", "registry.example is Harbor, and not Amazon ECR"),
        ("registry.example", "profile: generic, aws: {}", "registry.example is a registry, and not Amazon ECR"),
        (ECR, "aws: {region: us-east-1}", f"{ECR} is in eu-west-1; remove it"),
        (ECR, "aws: {region: Ireland}", "'Ireland' is not a region; write one such as eu-west-1"),
        (ECR, "aws: {region: ''}", "'' is not a region; write one such as eu-west-1"),
        (ECR, "aws: {role: mirror}", "is not the ARN of a role"),
        (ECR, "aws: {endpoint: 'http://api.example'}", "is not encrypted, and would carry the token"),
        (ECR, "aws: {secret_access_key: x}", "unknown key"),
        (ECR, "aws: {}, auth: {username: AWS, password: {env: X}}", "has no effect beside `auth:`"),
    ],
)
async def test_what_is_wrong_with_aws(desk: Desk, host: str, keys: str, said: str) -> None:
    """`hosts.HOST.aws`: one error names file, host, key and what to write."""
    desk.configure(
        f"hosts: {{{host}: {{{keys}}}}}\n"
        f"targets: {{t: {{kind: image, to: {host}/team}}}}\n"
        "mirrors: [{name: app, kind: image, from: {repository: quay.io/a/b}, to: [t]}]"
    )
    told = await desk.run("check", X="secret")
    assert told.status == 78
    assert said in told.err
    assert len([line for line in told.err.splitlines() if "hosts." in line]) == 1
