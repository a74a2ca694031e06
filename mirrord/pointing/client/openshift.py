"""OpenShift's ImageDigestMirrorSet and ImageTagMirrorSet. Pure."""

from __future__ import annotations

from typing import Final

from mirrord.pointing.client.mirror import (
    MARK,
    Client,
    ClientFile,
    ClientMirror,
    ClientSetup,
    Version,
    indented,
    quoted,
    unnamed_notes,
)

_FILE: Final = "mirrord-openshift.yaml"


def setup(mirror: ClientMirror, _: Version | None) -> ClientSetup:
    """Return both sets, since one is for digests and one for tags; and what trusts the mirror."""
    policy = "AllowContactingSource" if mirror.fallback else "NeverContactSource"
    documents = [_mirrors(mirror, kind, policy) for kind in ("Digest", "Tag")]
    trust = ""
    if mirror.ca:
        keys = "".join(
            f"  {quoted(host.replace(':', '..'))}: |\n{indented(mirror.ca, '    ')}" for host in mirror.hosts
        )
        head = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: mirrord-ca\n  namespace: openshift-config\n"
        documents.append(f"{head}data:\n{keys}")
        trust = "  additionalTrustedCA:\n    name: mirrord-ca\n"
    if mirror.insecure:
        hosts = "".join(f"      - {quoted(host)}\n" for host in mirror.hosts)
        trust = f"  registrySources:\n    insecureRegistries:\n{hosts}"
    files = [ClientFile(_FILE, f"{MARK}\n" + "---\n".join(documents))]
    if trust:
        head = "apiVersion: config.openshift.io/v1\nkind: Image\nmetadata:\n  name: cluster\nspec:\n"
        files.append(ClientFile("image.config.openshift.io/cluster", head + trust, part=True))
    return ClientSetup(
        tuple(files),
        f"oc apply -f {_FILE}",
        (
            "the nodes are drained and configured anew, one after the other",
            *(("`oc edit image.config.openshift.io/cluster` for the other part",) if trust else ()),
            *((f"a token is needed: add {mirror.host} to the cluster's global pull secret",) if mirror.token else ()),
            *unnamed_notes(mirror),
        ),
    )


def _mirrors(mirror: ClientMirror, kind: str, policy: str) -> str:
    text = f"apiVersion: config.openshift.io/v1\nkind: Image{kind}MirrorSet\nmetadata:\n  name: mirrord\n"
    text += f"spec:\n  image{kind}Mirrors:\n"
    for one in mirror.named():
        text += f"    - source: {quoted(one.registry)}\n      mirrors:\n        - {quoted(one.place)}\n"
        text += f"      mirrorSourcePolicy: {policy}\n"
    return text


OPENSHIFT: Final = Client("openshift", setup)
