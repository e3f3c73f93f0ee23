# zerocopy in a container: docs/container.md. Any Debian-like image with Python 3.11 or newer and its
# venv module can be the base.
ARG BASE=python:3.13-slim-bookworm

# --- build: everything is a wheel, so there is no compiler here either -----------------------------
FROM ${BASE} AS build

# A mirror of PyPI, where there is one.
ARG PIP_INDEX_URL
# auth: signed tokens, limits. formats: csv and parquet, 180 MB of polars. Empty leaves them out; csv
# and parquet are answered 501 then, and [auth] jwks stops the start.
ARG EXTRAS=[auth,formats]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

WORKDIR /src
RUN python3 -m venv /opt/zerocopy
COPY pyproject.toml constraints.txt README.md ./
COPY zerocopy zerocopy
# Not editable: a wheel is made and installed. pip compiles it to bytecode, because nobody can write
# beside it later. What has installed it is not needed to run it.
RUN /opt/zerocopy/bin/pip install --constraint constraints.txt ".${EXTRAS}" \
    && /opt/zerocopy/bin/pip uninstall --yes pip setuptools \
    && mkdir /var/cache/zerocopy

# --- the image -------------------------------------------------------------------------------------
FROM ${BASE}

LABEL org.opencontainers.image.title="zerocopy" \
      org.opencontainers.image.description="Streams columnar market data from day files with sendfile(2)."

COPY --from=build /opt/zerocopy /opt/zerocopy
# A volume that is mounted here, for [s3] cache_path or [rollups] path, belongs to the server's user.
COPY --from=build --chown=1000:1000 /var/cache/zerocopy /var/cache/zerocopy

# production: listens on every address, a worker for each core.
ENV PATH=/opt/zerocopy/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    ZEROCOPY_PROFILE=production

# config.toml and certs/ are looked for here.
WORKDIR /etc/zerocopy
# A number, so that an orchestrator can see that it is not root. It needs no entry in /etc/passwd.
USER 1000:1000
EXPOSE 8443

# It drains: compose.yml gives it longer than [server] drain_deadline_s.
STOPSIGNAL SIGTERM
# No shell, no curl. The timeout is above that of the command, which says what is wrong.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
    CMD ["zerocopy", "health"]
ENTRYPOINT ["zerocopy"]
CMD ["serve"]
