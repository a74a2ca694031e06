"""What sources are called at targets, and back: tables of what people write, and the rules for everything else."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mirrord.errors import UsageError
from mirrord.names.naming import BUILT_IN, Naming, parse_naming, registry_prefix, segment
from mirrord.wire.oci.reference import NAME_LIMIT, Reference

DIGEST = f"sha256:{'ab' * 32}"
PATH, NWCD, FLAT = (BUILT_IN[name] for name in ("path", "nwcd", "flat"))
BY_HOST = {"docker.io/library": "", "docker.io": "hub", "quay.io": "q/{name}", "ghcr.io": "{mirror}/{path}"}

component = st.from_regex(r"[a-z0-9]{1,4}(?:[._-][a-z0-9]{1,4})?", fullmatch=True)
names = st.from_regex(r"[a-z][a-z0-9]{0,5}(?:\.[a-z][a-z0-9]{0,4}){1,2}(?::[1-9][0-9]{0,3})?", fullmatch=True)
hosts = st.one_of(
    st.sampled_from(("docker.io", "quay.io", "gcr.io", "k8s.gcr.io", "eu.gcr.io", "public.ecr.aws", "localhost:5000")),
    names,
    st.ip_addresses(v=6).map(lambda address: f"[{address.compressed}]:5000"),
)


@st.composite
def references(draw: st.DrawFn) -> Reference:
    """A repository somewhere, in its canonical form."""
    path = "/".join(draw(st.lists(component, min_size=1, max_size=3)))
    return Reference.parse(f"{draw(hosts)}/{path}")


@pytest.mark.parametrize(
    ("written", "path", "flat"),
    [
        ("nginx", "docker.io/library/nginx", "docker.io__library__nginx"),
        ("index.docker.io/nginx:1.29", "docker.io/library/nginx", "docker.io__library__nginx"),
        ("registry-1.docker.io/bitnami/redis", "docker.io/bitnami/redis", "docker.io__bitnami__redis"),
        ("GHCR.io/team/app", "ghcr.io/team/app", "ghcr.io__team__app"),
        (f"quay.io/a/b:v1@{DIGEST}", "quay.io/a/b", "quay.io__a__b"),
        ("quay.io:443/a/b", "quay.io/a/b", "quay.io__a__b"),
        ("localhost:5000/x", "localhost_5000/x", "localhost_5000__x"),
        ("[::1]:5000/x", "0-0-0-0-0-0-0-1_5000/x", "0-0-0-0-0-0-0-1_5000__x"),
        ("[2001:DB8::A]/x", "2001-db8-0-0-0-0-0-a/x", "2001-db8-0-0-0-0-0-a__x"),
        ("[::ffff:10.0.0.1]:5000/x", "0-0-0-0-0-ffff-a00-1_5000/x", "0-0-0-0-0-ffff-a00-1_5000__x"),
    ],
)
def test_a_name_has_the_host_in_front_in_one_segment(written: str, path: str, flat: str) -> None:
    """Ports, upper case, IPv6, Docker Hub's other hosts, tags and digests: one name each, and the way back."""
    source = Reference.parse(written)
    whole = Reference(source.domain, source.path)
    assert (PATH.name(source), FLAT.name(source)) == (path, flat)
    assert (PATH.source(path), FLAT.source(flat)) == (whole, whole)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("k8s.gcr.io/cluster-autoscaler:v1.2.2", "gcr/google_containers/cluster-autoscaler"),
        ("gcr.io/google-containers/pause:3.1", "gcr/google_containers/pause"),
        ("gcr.io/google_containers/pause-amd64:3.0", "gcr/google_containers/pause-amd64"),
        ("eu.gcr.io/a/b", "gcr/a/b"),
        ("asia.gcr.io/a/b", "gcr/a/b"),
        ("us.gcr.io/a/b", "gcr/a/b"),
        ("quay.io/calico/node", "quay/calico/node"),
        ("602401143452.dkr.ecr.us-west-2.amazonaws.com/amazon-k8s-cni", "amazonecr/amazon-k8s-cni"),
        ("busybox:1.36-uclibc", "dockerhub/library/busybox"),
        ("bitnami/redis", "dockerhub/bitnami/redis"),
        ("public.ecr.aws/docker/library/nginx", "dockerhub/library/nginx"),
        ("public.ecr.aws/eks/pause", "ecrpublic/eks/pause"),
        ("registry.k8s.io/ingress-nginx/controller", "registryk8sio/ingress-nginx/controller"),
        ("ghcr.io/a/b", "ghcr/a/b"),
        ("docker.elastic.co/beats/filebeat", "elastic/beats/filebeat"),
        ("mcr.microsoft.com/dotnet/sdk", "dockerhub/mcr.microsoft.com/dotnet/sdk"),
        ("localhost:5000/x", "dockerhub/localhost_5000/x"),
    ],
)
def test_nwcd_calls_images_as_the_stored_ones_are_called(written: str, name: str) -> None:
    """The vectors of container-mirror and its successor; what was synced and what is rewritten have one name."""
    assert NWCD.name(Reference.parse(written)) == name
    back = NWCD.source(name)
    assert back is not None
    assert NWCD.name(back) == name


def test_of_sources_with_one_name_the_first_rule_gives_the_answer() -> None:
    """`nwcd` joins registries that had the same images; the way back prefers the registry that is written first."""
    assert str(NWCD.source("gcr/google_containers/pause")) == "k8s.gcr.io/pause"
    assert str(NWCD.source("dockerhub/library/nginx")) == "docker.io/library/nginx"
    assert str(NWCD.source("dockerhub/mcr.microsoft.com/dotnet/sdk")) == "mcr.microsoft.com/dotnet/sdk"


@pytest.mark.parametrize(
    ("written", "mirror", "name"),
    [
        ("nginx", "", "nginx"),
        ("bitnami/redis", "", "hub/bitnami/redis"),
        ("quay.io/calico/node", "", "q/node"),
        ("ghcr.io/a/b", "tools", "tools/a/b"),
    ],
)
def test_the_first_prefix_that_covers_a_source_names_it(written: str, mirror: str, name: str) -> None:
    """A value without braces replaces the prefix; one with braces is a template."""
    assert parse_naming(BY_HOST).name(Reference.parse(written), mirror) == name


@pytest.mark.parametrize(
    ("naming", "name", "source"),
    [
        (BY_HOST, "nginx", "docker.io/library/nginx"),
        (BY_HOST, "hub/bitnami/redis", "docker.io/bitnami/redis"),
        (BY_HOST, "q/node", None),
        ("{path}/{host}", "a/b/quay.io", "quay.io/a/b"),
        ("{host}/x/{path}", "localhost_5000/x/y", "localhost:5000/y"),
        ("m-{flat}", "m-quay.io__a__b", "quay.io/a/b"),
        ("{host}-{path}", "quay.io-a/b", None),
        ("{path}", "a/b", None),
        ("{mirror}/{host}/{path}", "m/quay.io/a", None),
        ("path", "nohost/a", None),
        ("path", "quay.io", None),
        ("nwcd", "elsewhere/a", None),
    ],
)
def test_a_name_leads_back_where_the_scheme_says_to_what(naming: object, name: str, source: str | None) -> None:
    """Where a template drops the host or a part of the path there is no way back, and none is guessed."""
    found = parse_naming(naming).source(name)  # type: ignore[arg-type]  # the table above has both forms
    assert (str(found) if found else None) == source


@pytest.mark.parametrize(
    ("naming", "words"),
    [
        ("hub", "'hub' is not a naming; write path, nwcd, flat, or a template such as {host}/{path}"),
        ("{paht}", "has an unknown placeholder {paht}; write {host}, {path}, {name}, {mirror}, {flat}"),
        ("{path", "has a brace without its counterpart"),
        ("{host}/x", "calls all repositories of a host the same; add {path}"),
        ("A/{path}", "'A/library/nginx', which is no repository; write lower-case words and /"),
        ("/{path}", "which is no repository"),
        ({}, "has no prefix; write one at least, such as docker.io: hub"),
        ({"nginx": "y"}, "'nginx' does not begin with a registry; write a host, such as docker.io/nginx"),
        ({"docker.io:v1/x": "y"}, "not a registry host"),
        ({"docker.io": "x", "index.docker.io/library": "y"}, "is below 'docker.io', which comes first"),
        ({"*": "o/{flat}", "quay.io": "q"}, "is below '*', which comes first"),
        ({"*": "hub"}, "'*' covers all hosts; write a template for it, such as others/{host}/{path}"),
        ({"quay.io": "Q"}, "'quay.io': 'Q' is not the beginning of a repository; write lower-case words"),
    ],
)
def test_a_wrong_naming_is_refused_with_what_to_write(naming: object, words: str) -> None:
    """What is wrong is found where the naming is read, before any source has a name."""
    with pytest.raises(UsageError) as refused:
        parse_naming(naming)  # type: ignore[arg-type]  # as above
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("naming", "source", "words"),
    [
        (parse_naming({"docker.io": "hub"}), "quay.io/a", "no prefix of the naming covers it; add its host, or '*'"),
        (parse_naming("{mirror}/{path}"), "quay.io/a", "needs a mirror"),
        (parse_naming("a/" * 100 + "{path}"), f"quay.io/{'b' * 100}", f"has 300 characters, at most {NAME_LIMIT}"),
    ],
)
def test_a_source_that_gets_no_name_is_refused(naming: Naming, source: str, words: str) -> None:
    """A name that no registry would take is an error here, not at the first push."""
    with pytest.raises(UsageError) as refused:
        naming.name(Reference.parse(source))
    assert words in str(refused.value)


def test_equal_namings_have_one_text() -> None:
    """The text goes into messages and records: two spellings of one table are one."""
    one = parse_naming({"Index.Docker.io/": "/hub/", "*": " {flat}"})
    assert one == parse_naming({"docker.io": "hub", "*": "{flat}"})
    assert one.text == "{docker.io: hub, *: {flat}}"


@given(references())
def test_path_gives_back_every_source(source: Reference) -> None:
    """Nothing that identifies a repository is lost in `path`."""
    assert PATH.source(PATH.name(source)) == source


@given(references())
def test_flat_gives_back_every_source_whose_path_has_no_two_underscores(source: Reference) -> None:
    """`flat` is one segment, and the way back cuts it at `__`."""
    assert "/" not in FLAT.name(source)
    assert FLAT.source(FLAT.name(source)) == source


@given(references(), st.sampled_from((*BUILT_IN.values(), parse_naming({"docker.io": "hub", "*": "{host}/{path}"}))))
def test_the_way_back_leads_to_a_source_of_that_name(source: Reference, naming: Naming) -> None:
    """Where several sources share a name the answer is one of them, never another image."""
    back = naming.source(naming.name(source))
    assert back is not None
    assert naming.name(back) == naming.name(source)


@given(hosts, hosts)
def test_two_hosts_are_never_one_segment(one: str, other: str) -> None:
    """Ports and IPv6 addresses are written so that no other host looks like them."""
    one, other = registry_prefix(one), registry_prefix(other)
    assume(one != other)
    assert segment(one) != segment(other)
