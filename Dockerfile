# mirrord as a container (docs/how-to/containers.md):
#   docker build -t mirrord .
#   docker run -d --read-only --tmpfs /tmp --stop-timeout 180 -v ./conf.d:/etc/mirrord/conf.d:ro \
#     -v mirrord:/var/lib/mirrord -p 127.0.0.1:8080:8080 mirrord
# Nothing here depends on the architecture. To build from a fixed base, pin it by digest:
#   --build-arg PYTHON=python:3.13-slim-bookworm@sha256:…
ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv /opt/mirrord
COPY constraints.txt pyproject.toml README.md ./
COPY docs/reference/configuration.schema.json ./docs/reference/
COPY man ./man
COPY systemd ./systemd
COPY mirrord ./mirrord
# Parts that an installation may do without (docs/adr/0031-botocore-as-an-extra.md); empty for none.
ARG EXTRAS=aws,scale
# Another index of Python packages; pip's default when it is not given.
ARG PIP_INDEX_URL
RUN /opt/mirrord/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt ".${EXTRAS:+[$EXTRAS]}"

FROM ${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mirrord" \
      org.opencontainers.image.description="Keeps copies of container images, Helm charts and Git repositories close to the people who use them" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The user has a name because ssh refuses to run as one that has none.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates git openssh-client tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 65532 mirrord \
 && useradd --uid 65532 --gid mirrord --home-dir /var/lib/mirrord --no-create-home --shell /usr/sbin/nologin mirrord \
 && install -d -m 0755 /etc/mirrord/conf.d \
 && install -d -m 0700 -o mirrord -g mirrord /var/lib/mirrord
COPY --from=build /opt/mirrord /opt/mirrord
# 0.0.0.0: the container engine decides which ports are published. On a bare host the default is 127.0.0.1.
# MALLOC_…: give memory back after a burst (docs/explanation/performance.md has the measurements).
ENV PATH=/opt/mirrord/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_MMAP_THRESHOLD_=4194304 \
    MALLOC_TRIM_THRESHOLD_=131072 \
    MIRRORD_LISTEN=0.0.0.0:8080 \
    STATE_DIRECTORY=/var/lib/mirrord
USER 65532:65532
WORKDIR /var/lib/mirrord
VOLUME ["/var/lib/mirrord"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["mirrord", "healthcheck"]
# tini is process 1: it passes signals on, and collects processes that git leaves behind when it is killed.
ENTRYPOINT ["tini", "--", "mirrord"]
CMD ["serve", "-c", "/etc/mirrord/conf.d"]
